// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems

/// Makes the FAT of an EFI system partition that no image fills. Boot repair puts the loader into it.
struct ESPMaker {
    private let partition: Partition
    private let writer: TargetWriter

    init(_ partition: Partition, writer: TargetWriter) {
        self.partition = partition
        self.writer = writer
    }

    /// Writes the FAT, and reads it back.
    /// - Parameter settle: flushes and drops caches, so that reads come from the medium.
    func run(settle: () throws -> Void) throws {
        let range = partition.range
        let sector = writer.logicalSectorSize
        // As in HiddenSectors; 0 if the field cannot hold the number.
        let hidden = UInt32(exactly: range.lowerBound / UInt64(max(1, sector))) ?? 0
        // The serial number follows from the GUID: the same plan makes the same bytes.
        let serial: UInt32 = try partition.guid.textOrderBytes.littleEndian(at: 0)
        guard
            let fat = EmptyFAT(
                volumeByteCount: range.byteCount, sectorSize: sector, serialNumber: serial, hiddenSectors: hidden),
            let slice = BlockSlice(writer, range: range)
        else {
            throw ImagingError.failed("there is no room for the FAT of partition \(partition.number)")
        }
        try fat.run { bytes, offset in
            try bytes.withUnsafeBytes { try writer.write($0, at: range.lowerBound + offset) }
        } zero: { part in
            try writer.writeZeros(range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
        }
        try settle()
        guard try FATVolume(slice).entries(in: "/").isEmpty else {
            throw ImagingError.failed(
                "the new FAT of partition \(partition.number) does not hold the written bytes: the disk is failing, or smaller than it reports"
            )
        }
    }
}
