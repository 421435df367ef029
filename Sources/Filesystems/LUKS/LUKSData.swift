// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import FoundationEssentials

/// The place of a LUKS volume's encrypted sectors according to its header: one contiguous range
/// without special features.
struct LUKSData: Equatable, Sendable {
    /// Their start in the volume, in bytes.
    var start: UInt64
    /// Their length in bytes; `nil` for everything up to the end of the volume.
    var byteCount: UInt64?
    /// The length of an encrypted sector in bytes.
    var sectorSize: Int
    /// The cipher as dm-crypt takes it, `aes-xts-plain64`; `nil` for LUKS1, whose header names it.
    var cipher: String?

    /// Why a volume in reencryption is not opened: some sectors have the old key, others the new one.
    static let reencryption = "it is being reencrypted"

    /// LUKS1: sectors of 512 bytes up to the end.
    init(start: UInt64, _ volumeByteCount: UInt64) throws(FilesystemError) {
        self.init(start: start, byteCount: nil, sectorSize: 512)
        try check(volumeByteCount)
    }

    private init(start: UInt64, byteCount: UInt64?, sectorSize: Int) {
        self.start = start
        self.byteCount = byteCount
        self.sectorSize = sectorSize
    }

    private func check(_ volumeByteCount: UInt64) throws(FilesystemError) {
        // payload-offset of 0: not in the "LUKS On-Disk Format Specification"; cryptsetup
        // writes it to a detached header.
        guard start > 0 else { throw .damaged("its header is meant for another volume") }
        guard start % 512 == 0, [512, 1024, 2048, 4096].contains(sectorSize), start < volumeByteCount,
            byteCount.map({ $0 > 0 && $0 % 512 == 0 && $0 <= volumeByteCount - start }) ?? true
        else { throw .damaged("its header makes no sense") }
    }

    /// Their end in a volume of that length, in bytes.
    func end(in volumeByteCount: UInt64) -> UInt64 {
        // No overflow: it was compared with the volume.
        byteCount.map { start + $0 } ?? volumeByteCount
    }
}

// LUKS2: the text behind the binary header.
extension LUKSData {
    /// The start of the text ("LUKS2 On-Disk Format Specification", §2).
    private static let textStart: UInt64 = 4096
    /// Headers have 16 KiB to 4 MiB (§2.2). The text of one with all its key slots and tokens is far shorter.
    private static let headerByteCounts: ClosedRange<UInt64> = 16 << 10...4 << 20
    private static let textLimit = 256 << 10

    /// The relevant metadata of a volume (§3).
    private struct Metadata: Decodable {
        struct Segment: Decodable {
            var type: String
            var offset: String
            var size: String
            var sector_size: Int?
            var encryption: String?
            var integrity: Integrity?
            var flags: [String]?
        }
        /// Its contents are ignored.
        struct Integrity: Decodable {}
        struct Config: Decodable {
            var requirements: Requirements?
        }
        struct Requirements: Decodable {
            var mandatory: [String]?
        }
        var segments: [String: Segment]
        var config: Config
    }

    /// From the first header of a volume. Its checksum is not verified: cryptsetup's data about the opened
    /// volume are compared with this.
    init(metadataOf volume: any BlockReader, headerByteCount: UInt64) throws(FilesystemError) {
        guard Self.headerByteCounts.contains(headerByteCount), headerByteCount <= volume.byteCount else {
            throw .damaged("its header makes no sense")
        }
        let count = Int(headerByteCount - Self.textStart)
        let bytes = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: Self.textStart, count: count)
        }
        let text = bytes.prefix { $0 != 0 }
        guard text.count <= Self.textLimit, let metadata = try? JSONDecoder().decode(Metadata.self, from: Data(text))
        else { throw .damaged("its metadata are not understood") }
        // §3.7: "online-reencrypt", "offline-reencrypt", and other features that change how the sectors are read.
        if let requirement = metadata.config.requirements?.mandatory?.first {
            guard !requirement.contains("reencrypt") else { throw .damaged(Self.reencryption) }
            throw .damaged("it needs something that is not known here (\(requirement.prefix(40)))")
        }
        guard metadata.segments.count == 1, let segment = metadata.segments["0"] else {
            throw .damaged("its sectors lie in several segments")
        }
        guard segment.integrity == nil else { throw .damaged("it keeps checksums of its sectors (dm-integrity)") }
        guard segment.type == "crypt", segment.flags?.isEmpty ?? true else {
            throw .damaged("its segment is of an unknown kind (\(segment.type.prefix(40)))")
        }
        guard let start = UInt64(segment.offset), let sectorSize = segment.sector_size else {
            throw .damaged("its metadata are not understood")
        }
        var byteCount: UInt64?
        if segment.size != "dynamic" {
            guard let count = UInt64(segment.size) else { throw .damaged("its metadata are not understood") }
            byteCount = count
        }
        self.init(start: start, byteCount: byteCount, sectorSize: sectorSize)
        cipher = segment.encryption.map { String($0.prefix(64)) }
        try check(volume.byteCount)
    }
}
