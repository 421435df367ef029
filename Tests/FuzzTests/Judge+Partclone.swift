// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import DiskImages

extension Judge {
    /// A partclone image: it is refused, or its volume has the stated length and is read to its confirmed end.
    static func partclone(_ reader: any BlockReader) throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("image")
        try Files.write(
            try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20))), to: path)
        // A hostile header may state an exbibyte, with hardly a block in it.
        guard let disk = try? PartcloneFile.format.open(path, "image"), disk.geometry.byteCount <= 1 << 40,
            let contents = try? ForeignContents(disk, Cancellation())
        else { return }
        try demand(contents.used.byteCount == disk.geometry.byteCount, "a map of another length")
        try demand(
            contents.used.usedByteCount <= reader.byteCount + 4096, "\(contents.used.usedByteCount) bytes from nothing")
        for range in contents.used.ranges.prefix(4096) {
            guard (try? contents.readBytes(at: range.lowerBound, count: Int(range.byteCount))) != nil else { return }
        }
        try? contents.confirmEnd()
    }
}
