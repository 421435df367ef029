// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// The file allocation table itself ("FAT Data Structure"), read through a window.
struct FATTable {
    /// The meaning of an entry.
    enum Link: Equatable {
        case free
        case next(UInt32)
        case end
        case bad
    }

    private static let windowByteCount: UInt64 = 1 << 16

    private let volume: any BlockReader
    private let boot: FATBootSector
    private let fatOffset: UInt64
    private var windowStart: UInt64 = .max
    private var window: [UInt8] = []

    /// The active FAT, or the first of several mirrored ones.
    init(_ volume: any BlockReader, _ boot: FATBootSector) {
        self.volume = volume
        self.boot = boot
        fatOffset = boot.offset(ofFAT: boot.activeFAT ?? 0)
    }

    /// The entry of `cluster`, without its reserved bits.
    mutating func value(_ cluster: UInt64) throws(FilesystemError) -> UInt32 {
        guard cluster < boot.clusterEnd else { throw .damaged("a chain of clusters leads outside the volume") }
        let bit = cluster * UInt64(boot.entryBits)
        let place = bit / 8
        // A 12-bit entry may straddle two windows: windows overlap by their last byte.
        let start = place / (Self.windowByteCount - 4) * (Self.windowByteCount - 4)
        if start != windowStart {
            let count = min(Self.windowByteCount, boot.fatByteCount - start)
            window = try FilesystemError.reading { () throws(BlockIOError) in
                try volume.readBytes(at: fatOffset + start, count: Int(count))
            }
            windowStart = start
        }
        let offset = Int(place - start)
        let (bytes, entryBits) = (window, boot.entryBits)
        return try FilesystemError.parsing { () throws(ParsingError) in
            switch entryBits {
            case 12:
                let pair = try bytes.littleEndian(UInt16.self, at: offset)
                return UInt32(bit % 8 == 0 ? pair & 0xFFF : pair >> 4)
            case 16: return UInt32(try bytes.littleEndian(UInt16.self, at: offset))
            // "The high 4 bits of a FAT32 FAT entry are reserved."
            default: return try bytes.littleEndian(UInt32.self, at: offset) & 0x0FFF_FFFF
            }
        }
    }

    /// The successor of `cluster` in its chain.
    mutating func link(_ cluster: UInt64) throws(FilesystemError) -> Link {
        let value = try value(cluster)
        let highest: UInt32 = boot.entryBits == 32 ? 0x0FFF_FFFF : boot.entryBits == 16 ? 0xFFFF : 0xFFF
        switch value {
        case 0: return .free
        case highest - 7...highest: return .end
        case highest - 8: return .bad
        default:
            guard value >= 2, UInt64(value) < boot.clusterEnd else {
                throw .damaged("a chain of clusters leads outside the volume")
            }
            return .next(value)
        }
    }

    /// The clusters of a chain, in order; at most `limit`, which also ends a circular chain.
    mutating func chain(from first: UInt32, limit: UInt64) throws(FilesystemError) -> [UInt32] {
        guard first >= 2, UInt64(first) < boot.clusterEnd else {
            throw .damaged("a chain of clusters leads outside the volume")
        }
        var clusters = [first]
        var current = first
        while UInt64(clusters.count) < min(limit, boot.clusterCount) {
            switch try link(UInt64(current)) {
            case .end: return clusters
            case .free, .bad: throw .damaged("a chain of clusters is broken")
            case .next(let next):
                clusters.append(next)
                current = next
            }
        }
        return clusters
    }
}
