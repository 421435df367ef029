// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import ObjectStore

/// An object of a repository being written, with `ImageError`s.
final class StoreOutput {
    /// The name in messages.
    let name: String
    private let object: any ObjectWriter
    var byteCount: UInt64 { object.byteCount }

    init(_ name: String, _ object: any ObjectWriter) {
        self.name = name
        self.object = object
    }

    func write(_ bytes: [UInt8]) throws(ImageError) {
        let outcome = unsafe bytes.withUnsafeBytes { buffer in
            Result { () throws(ImageError) in unsafe try write(buffer) }
        }
        try outcome.get()
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws(ImageError) {
        do { unsafe try object.write(bytes) } catch { throw .system(error) }
    }

    /// Makes it durable, then visible.
    func commit() throws(ImageError) {
        do { try object.commit() } catch { throw .system(error) }
    }

    /// Removes the unfinished object.
    func discard() { object.discard() }
}
