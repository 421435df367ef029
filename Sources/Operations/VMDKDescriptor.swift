// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage

/// The text inside a `monolithicSparse` VMDK that names the file itself. QEMU writes the name that the file has while it
/// is made, and VMware's programs look for that name.
enum VMDKDescriptor {
    private static let sectorByteCount = 512
    /// `embedded-descriptor` of the sparse header (VMware Virtual Disk Format 1.1, "Hosted Sparse Extent Header"):
    /// offset and length in sectors, little-endian, at bytes 28 and 36.
    private static let (offsetField, countField) = (28, 36)
    private static let largestSectorCount: UInt64 = 2048

    /// Names the file in its own descriptor.
    static func rename(_ path: FilePath, from old: String, to new: String) throws(SystemCallError) {
        let file = try OwnedDescriptor.open(path, .readWrite, options: .noFollow)
        let header = try read(file.raw, path, at: 0, byteCount: sectorByteCount)
        guard header.starts(with: Array("KDMV".utf8)) else { throw unreadable(path) }
        let start = number(header, at: offsetField)
        let count = number(header, at: countField)
        guard count > 0, count <= largestSectorCount, let byteCount = Int(exactly: count * UInt64(sectorByteCount)),
            let offset = start.multiplied(by: sectorByteCount)
        else { throw unreadable(path) }
        let text = try read(file.raw, path, at: offset, byteCount: byteCount)
        guard let changed = renamed(text, from: old, to: new) else { throw unreadable(path) }
        do {
            let written = try file.raw.writeAll(toAbsoluteOffset: offset, changed)
            guard written == changed.count else { throw Errno.ioError }
        } catch { throw SystemCallError("write to", path.string, error as? Errno ?? .ioError) }
    }

    /// The descriptor with another file name, in the same length; `nil` if the old name is not there once, or the new
    /// one does not fit.
    static func renamed(_ text: [UInt8], from old: String, to new: String) -> [UInt8]? {
        // A name in quotes has no way to hold a quote or a line break.
        guard !new.utf8.contains(where: { $0 == UInt8(ascii: "\"") || $0 < 32 }) else { return nil }
        let sought = Array(" SPARSE \"\(old)\"".utf8)
        let end = text.firstIndex(of: 0) ?? text.endIndex
        let used = text[..<end]
        guard used.count >= sought.count,
            case let places = (0...used.count - sought.count).filter({ used[$0...].starts(with: sought) }),
            places.count == 1, let place = places.first
        else { return nil }
        let result = used[..<place] + Array(" SPARSE \"\(new)\"".utf8) + used[(place + sought.count)...]
        guard result.count <= text.count else { return nil }
        return result + [UInt8](repeating: 0, count: text.count - result.count)
    }

    private static func number(_ bytes: [UInt8], at offset: Int) -> UInt64 {
        bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func read(
        _ file: FileDescriptor, _ path: FilePath, at offset: Int64, byteCount: Int
    ) throws(SystemCallError) -> [UInt8] {
        do {
            let bytes = try [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
                count = try file.read(fromAbsoluteOffset: offset, into: UnsafeMutableRawBufferPointer(buffer))
            }
            guard bytes.count == byteCount else { throw Errno.ioError }
            return bytes
        } catch { throw SystemCallError("read", path.string, error as? Errno ?? .ioError) }
    }

    private static func unreadable(_ path: FilePath) -> SystemCallError {
        SystemCallError("find the descriptor of", path.string, .ioError)
    }
}

extension UInt64 {
    /// As an offset in a file; `nil` on overflow.
    fileprivate func multiplied(by factor: Int) -> Int64? {
        let (product, overflow) = multipliedReportingOverflow(by: UInt64(factor))
        return overflow ? nil : Int64(exactly: product)
    }
}
