// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension NTFSMapper {
    /// The bytes of the master file table in one read; a multiple of every record size.
    private static let batch: UInt64 = 1 << 20

    /// Checks that all clusters of all file records in use are in `map`: base records and their extensions, according
    /// to their own flags and not to the bitmap of the master file table.
    ///
    /// ntfs-3g does not mark a volume as dirty while it is mounted, writes no log, and does not change one that Windows
    /// closed: after a crash, only the files themselves show that the bitmap on the disk is older than they are.
    /// - Throws: `FilesystemError.damaged` if one is missing, or a file's record is invalid.
    func checkFiles(_ map: AllocationMap) throws(FilesystemError) {
        let recordSize = Int(boot.recordSize)
        let end = table.contents.initializedByteCount.roundedDown(toMultipleOf: boot.recordSize)
        // The first four may be those of the copy.
        for number in 0..<4 as Range<UInt64> { try check(try table.record(number), map) }
        var position = 4 * boot.recordSize
        while position < end {
            let bytes = try table.contents.read(at: position, count: Int(min(Self.batch, end - position)))
            for offset in stride(from: 0, to: bytes.count, by: recordSize) {
                // The magic "FILE", and MFT_RECORD_IN_USE of flags.
                guard bytes[offset..<offset + 4].elementsEqual([0x46, 0x49, 0x4C, 0x45]), bytes[offset + 22] & 1 == 1
                else { continue }
                let number = (position + UInt64(offset)) / boot.recordSize
                let raw = Array(bytes[offset..<offset + recordSize])
                try check(
                    try FilesystemError.parsing { () throws(ParsingError) in try NTFSRecord(raw, number: number) }, map)
            }
            position += UInt64(bytes.count)
        }
    }

    private func check(_ record: NTFSRecord, _ map: AllocationMap) throws(FilesystemError) {
        let runs = try FilesystemError.parsing { () throws(ParsingError) in
            var runs: [NTFSRunList.Run] = []
            for attribute in record.attributes {
                guard case .clusters(let part) = attribute.content else { continue }
                runs += try NTFSRunList(only: part, clusterCount: boot.clusterCount).runs
            }
            return runs
        }
        for run in runs {
            guard let place = run.place else { continue }
            if let free = map.firstUnused(in: place * boot.clusterSize..<(place + run.count) * boot.clusterSize) {
                throw .damaged(
                    "file record \(record.number) uses cluster \(free / boot.clusterSize), which its allocation bitmap "
                        + "calls free")
            }
        }
    }
}
