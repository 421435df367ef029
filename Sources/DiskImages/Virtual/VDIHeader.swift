// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The header of a VDI image (VirtualBox, `VDICore.h`; QEMU, `block/vdi.c`).
enum VDIHeader {
    private static let (dynamic, fixed): (UInt32, UInt32) = (1, 2)

    static func read(_ file: any BlockReader) throws(ImageError) -> VirtualHeader {
        let head = try file.part(at: 0, count: 512)
        let (version, type, sectorSize, byteCount, blockByteCount, blockCount) = try file.parsing(at: 68) {
            () throws(ParsingError) in
            (
                try head.littleEndian(UInt32.self, at: 68), try head.littleEndian(UInt32.self, at: 76),
                try head.littleEndian(UInt32.self, at: 360), try head.littleEndian(UInt64.self, at: 368),
                try head.littleEndian(UInt32.self, at: 376), try head.littleEndian(UInt32.self, at: 384)
            )
        }
        guard version == 0x0001_0001 else {
            throw file.refused(
                "it has version \(version >> 16).\(version & 0xFFFF) of the VDI format",
                instead: "Convert it (VBoxManage clonemedium)")
        }
        // The ids of a parent and of the disk that this one is linked to.
        guard type == dynamic || type == fixed, head[424..<456].allSatisfy({ $0 == 0 }) else {
            throw file.refused(
                "it is a snapshot of another VDI image", instead: "Merge it first (VBoxManage clonemedium)")
        }
        guard sectorSize == 512, blockByteCount == 1 << 20,
            byteCount <= UInt64(blockCount) * UInt64(blockByteCount)
        else { throw file.damaged("the measures in its header", at: 360) }
        let (dataOffset, storedCount) = try file.parsing(at: 344) { () throws(ParsingError) in
            (try head.littleEndian(UInt32.self, at: 344), try head.littleEndian(UInt32.self, at: 388))
        }
        // QEMU would read zeros behind the end of the file.
        guard UInt64(dataOffset) + UInt64(storedCount) * UInt64(blockByteCount) <= file.byteCount else {
            throw .truncated(name: file.name, at: file.byteCount)
        }
        return VirtualHeader(format: .vdi, byteCount: byteCount)
    }
}
