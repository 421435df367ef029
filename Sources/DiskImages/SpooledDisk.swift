// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A disk in a compressed file, decompressed into a scratch file.
final class SpooledDisk: DiskFile {
    private let facts: DiskFacts
    private let scratch: DiskScratch

    init(_ facts: DiskFacts, _ scratch: DiskScratch) {
        self.facts = facts
        self.scratch = scratch
    }

    var byteCount: UInt64 { facts.byteCount }
    var file: FileBytes { facts.file }
    var name: String { facts.file.name }
    var isRandomAccess: Bool { true }
    var hasUncheckedParts: Bool { facts.hasUncheckedParts }
    var descriptor: Int32? { scratch.file.raw.rawValue }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        func failure(_ errorNumber: Int32, _ reason: String) -> BlockIOError {
            BlockIOError(
                .read, name: scratch.name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: reason)
        }
        try checkedRange(at: offset, count: UInt64(buffer.count))
        do throws(SystemCallError) { unsafe try scratch.read(into: buffer, at: offset) } catch {
            throw failure(error.errno.rawValue, "\(error)")
        }
    }

    /// The file was read to its end, with its checksums, before the scratch was used.
    func confirmEnd() {}
}
