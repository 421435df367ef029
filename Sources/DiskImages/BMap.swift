// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

/// The block map of a raw image (bmaptool(1), version 2.0): which blocks were written, with a SHA-256 of each range.
/// All other blocks have no content.
struct BMap: Equatable, Sendable {
    struct Range: Equatable, Sendable {
        var bytes: ByteRange
        /// `nil` in a map without checksums.
        var checksum: ContentHash?
    }

    /// In bytes.
    var imageByteCount: UInt64
    /// Ascending and disjoint.
    var ranges: [Range]

    /// The longest map that is read.
    static let limit = 64 << 20
    private static let checksumElement = "BmapFileChecksum"

    init(parsing bytes: [UInt8]) throws(ParsingError) {
        var scanner = BMapScanner(bytes)
        var fields: [String: String] = [:]
        var rows: [(checksum: String?, blocks: String)] = []
        var checksumPlace: Swift.Range<Int>?
        var version: String?
        while let element = try scanner.next() {
            switch element.path {
            case ["bmap"]: version = element.attributes["version"]
            case ["bmap", "BlockMap", "Range"]:
                rows.append((element.attributes["chksum"], Self.trimmed(element.text)))
            case let path where path.count == 2 && path[0] == "bmap" && path[1] != "BlockMap":
                guard fields.updateValue(Self.trimmed(element.text), forKey: path[1]) == nil else {
                    throw .invalid(what: "the second \(path[1])")
                }
                if path[1] == Self.checksumElement { checksumPlace = element.textPlace }
            default: continue
            }
        }
        guard version?.split(separator: ".").first == "2" else { throw .invalid(what: "the version \(version ?? "")") }
        let hasChecksums = fields["ChecksumType"] != nil
        guard fields["ChecksumType"] ?? "sha256" == "sha256" else {
            throw .invalid(what: "the kind of checksum \(fields["ChecksumType"] ?? "")")
        }
        if hasChecksums || fields[Self.checksumElement] != nil {
            try Self.check(bytes, checksumPlace, fields[Self.checksumElement] ?? "")
        }
        imageByteCount = try Self.number(fields["ImageSize"])
        let blockSize = try Self.number(fields["BlockSize"])
        guard (512...1 << 26).contains(blockSize), imageByteCount > 0, imageByteCount <= 1 << 60,
            try Self.number(fields["BlocksCount"]) == imageByteCount.dividedRoundingUp(by: blockSize, "the image")
        else { throw .invalid(what: "the number of blocks") }
        ranges = []
        var mapped: UInt64 = 0
        for row in rows {
            let range = try Self.range(row.blocks, blockSize, limit: imageByteCount)
            guard range.bytes.lowerBound >= ranges.last?.bytes.upperBound ?? 0 else {
                throw .invalid(what: "the order of the range \(row.blocks)")
            }
            let checksum = row.checksum.flatMap { ContentHash(hexadecimal: $0) }
            guard (checksum != nil) == hasChecksums else { throw .invalid(what: "the checksum of \(row.blocks)") }
            ranges.append(Range(bytes: range.bytes, checksum: checksum))
            mapped = try mapped.adding(range.blockCount, "the number of blocks")
        }
        guard try Self.number(fields["MappedBlocksCount"]) == mapped else {
            throw .invalid(what: "the number of mapped blocks")
        }
    }

    /// The checksum of the file is that with zeros in its own place.
    private static func check(
        _ bytes: [UInt8], _ place: Swift.Range<Int>?, _ text: String
    ) throws(ParsingError) {
        guard let place, let wanted = ContentHash(hexadecimal: text),
            let start = bytes[place].firstIndex(where: { !BMapScanner.isSpace($0) }), start + 64 <= place.upperBound
        else { throw .invalid(what: "the checksum of the file") }
        var blank = bytes
        blank.replaceSubrange(start..<start + 64, with: repeatElement(UInt8(ascii: "0"), count: 64))
        guard ContentHash(of: blank) == wanted else { throw .invalid(what: "its contents, by its own checksum,") }
    }

    /// `7` or `7-19`.
    private static func range(
        _ text: String, _ blockSize: UInt64, limit: UInt64
    ) throws(ParsingError) -> (bytes: ByteRange, blockCount: UInt64) {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count <= 2, let first = ends.first, let last = ends.last else { throw .invalid(what: "a range") }
        let (start, end) = (try number(String(first)), try number(String(last)))
        guard start <= end else { throw .invalid(what: "the range \(text)") }
        let offset = try start.multiplied(by: blockSize, "the range \(text)")
        let behind = try end.adding(1, "the range \(text)").multiplied(by: blockSize, "the range \(text)")
        guard offset < limit, behind - blockSize < limit else { throw .invalid(what: "the range \(text)") }
        return (offset..<min(behind, limit), end - start + 1)
    }

    private static func number(_ text: String?) throws(ParsingError) -> UInt64 {
        guard let text, let number = UInt64(trimmed(text)) else { throw .invalid(what: "the number \(text ?? "")") }
        return number
    }

    private static func trimmed(_ text: String) -> String { text.filter { !$0.isWhitespace } }
}
