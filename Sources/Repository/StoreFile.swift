// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import ObjectStore

/// An open object of a repository, readable at any offset and from any thread, with `ImageError`s.
final class StoreFile: Sendable {
    /// The name in messages.
    let name: String
    private let object: any ObjectReader
    var byteCount: UInt64 { object.byteCount }

    init(_ name: String, _ object: any ObjectReader) {
        self.name = name
        self.object = object
    }

    /// `count` bytes from `offset` on.
    func bytes(at offset: UInt64, count: Int) throws(ImageError) -> [UInt8] {
        // Checked before memory is allocated.
        guard count >= 0, offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw .truncated(name: name, at: byteCount)
        }
        var result = [UInt8](repeating: 0, count: count)
        let outcome = unsafe result.withUnsafeMutableBytes { buffer in
            Result { () throws(ImageError) in unsafe try read(into: buffer, at: offset) }
        }
        try outcome.get()
        return result
    }

    /// Fills all of `buffer` from `offset` on.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) {
        let count: Int
        do { count = unsafe try object.read(into: buffer, at: offset) } catch { throw .system(error) }
        guard count == buffer.count else { throw .truncated(name: name, at: offset + UInt64(count)) }
    }
}
