// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A metadata area of a physical volume: a header, and a ring of texts; the header locates the live one (LVM2's
/// `lib/format_text/layout.h`: struct mda_header, raw_locn).
struct LVMMetadataArea: Sendable {
    /// The state of the area.
    enum State: Sendable {
        /// No volume group was written here.
        case empty
        /// The group keeps its metadata on other physical volumes.
        case ignored
        /// The committed text.
        case text([UInt8])
    }

    let state: State
    /// Whether a change was written and not committed here: other physical volumes may have it already.
    let hasPendingChange: Bool

    /// MDA_HEADER_SIZE.
    static let headerByteCount = 512
    /// FMTT_MAGIC: " LVM2 x[5A%r0N*>".
    static let magic = Array(" LVM2 x[5A%r0N*>".utf8)
    /// Enough for some ten thousand logical volumes; LVM itself makes areas of 1 MiB.
    static let longestText: UInt64 = 4 << 20

    init(_ volume: any BlockReader, at area: ByteRange) throws(FilesystemError) {
        guard area.byteCount > UInt64(Self.headerByteCount), (0..<volume.byteCount).covers(area) else {
            throw .damaged("a metadata area lies outside it")
        }
        let header = try FilesystemError.reading { () throws(BlockIOError) in
            try volume.readBytes(at: area.lowerBound, count: Self.headerByteCount)
        }
        let (committed, pending) = try FilesystemError.parsing { () throws(ParsingError) in
            try Self.check(header, area)
            return (try Location(header, at: 40), try Location(header, at: 64))  // raw_locns
        }
        // The second location is wiped when its change is committed.
        hasPendingChange = pending.byteCount > 0 && pending.offset != committed.offset
        if committed.flags & 1 != 0 {  // RAW_LOCN_IGNORED
            state = .ignored
        } else if committed.offset == 0 {
            state = .empty
        } else {
            state = .text(try Self.text(volume, area, committed))
        }
    }

    private struct Location {
        let offset: UInt64
        let byteCount: UInt64
        let checksum: UInt32
        let flags: UInt32

        init(_ header: [UInt8], at place: Int) throws(ParsingError) {
            offset = try header.littleEndian(UInt64.self, at: place)
            byteCount = try header.littleEndian(UInt64.self, at: place + 8)
            checksum = try header.littleEndian(UInt32.self, at: place + 16)
            flags = try header.littleEndian(UInt32.self, at: place + 20)
        }
    }

    private static func check(_ header: [UInt8], _ area: ByteRange) throws(ParsingError) {
        guard try header.littleEndian(UInt32.self, at: 0) == LVMLabel.checksum(Array(header[4...])) else {
            throw .invalid(what: "the checksum of a metadata area")
        }
        guard try header.bytes(at: 4, count: 16) == magic else { throw .invalid(what: "a metadata area's signature") }
        guard try header.littleEndian(UInt32.self, at: 20) == 1 else {  // FMTT_VERSION
            throw .invalid(what: "a metadata area's version")
        }
        guard try header.littleEndian(UInt64.self, at: 24) == area.lowerBound,
            try header.littleEndian(UInt64.self, at: 32) == area.byteCount
        else { throw .invalid(what: "the place of a metadata area in its own header") }
    }

    /// The text at a location. It is a ring: text beyond the area's end continues behind the header.
    private static func text(
        _ volume: any BlockReader, _ area: ByteRange, _ location: Location
    ) throws(FilesystemError) -> [UInt8] {
        let room = area.byteCount - UInt64(headerByteCount)
        guard location.offset >= UInt64(headerByteCount), location.offset < area.byteCount, location.byteCount > 0,
            location.byteCount <= room
        else { throw .damaged("the metadata text lies outside its area") }
        guard location.byteCount <= longestText else {
            throw .damaged("its metadata text of \(location.byteCount) bytes is longer than is followed")
        }
        let first = min(location.byteCount, area.byteCount - location.offset)
        let text = try FilesystemError.reading { () throws(BlockIOError) in
            var text = try volume.readBytes(at: area.lowerBound + location.offset, count: Int(first))
            let start = area.lowerBound + UInt64(headerByteCount)
            text += try volume.readBytes(at: start, count: Int(location.byteCount - first))
            return text
        }
        guard LVMLabel.checksum(text) == location.checksum else {
            throw .damaged("the checksum of its metadata text is wrong")
        }
        return text
    }
}
