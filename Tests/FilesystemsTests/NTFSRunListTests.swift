// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport
import Testing

@testable import Filesystems

struct NTFSRunListTests {
    /// The runs of mapping pairs for a part of an attribute, on a volume of 1,000 clusters.
    private func runs(_ pairs: [UInt8], _ range: Range<UInt64>, into list: NTFSRunList = NTFSRunList()) throws
        -> NTFSRunList
    {
        var list = list
        try list.append(
            NTFSAttribute.Clusters(
                range: range, mappingPairs: pairs, allocatedByteCount: 0, byteCount: 0, initializedByteCount: 0),
            clusterCount: 1000)
        return list
    }

    @Test func mappingPairsAreDecoded() throws {
        // Forward, backward, a hole (no distance), and further from the run before the hole.
        let list = try runs([0x21, 0x10, 0x2C, 0x01, 0x11, 0x08, 0x9C, 0x01, 0x05, 0x11, 0x02, 0x0A, 0], 0..<31)
        #expect(
            list.runs == [
                .init(start: 0, count: 16, place: 300), .init(start: 16, count: 8, place: 200),
                .init(start: 24, count: 5, place: nil), .init(start: 29, count: 2, place: 210),
            ])
        #expect(list.run(at: 15)?.place == 300 && list.run(at: 16)?.place == 200 && list.run(at: 31) == nil)
        // The next part again counts from cluster 0 of the volume.
        let more = try runs([0x12, 0x00, 0x01, 0x07, 0], 31..<287, into: list)
        #expect(more.end == 287 && more.runs.last == .init(start: 31, count: 256, place: 7))
        #expect(try runs([0], 0..<0).runs == [])
    }

    @Test(
        arguments: [
            ([0x11, 0x01, 0xFF, 0], 1, "before the volume"), ([0x21, 0x01, 0xE8, 0x03, 0], 1, "behind it"),
            ([0x21, 0x02, 0xE7, 0x03, 0], 2, "across its end"), ([0x11, 0x00, 0x05, 0], 0, "of no length"),
            ([0x11, 0xFF, 0x05, 0], 1, "of negative length"), ([0x11, 0x01, 0x05], 1, "without an end"),
            ([0x21, 0x01, 0x05], 1, "cut off"), ([0x91, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1, "too wide"),
            ([0x19, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0], 1, "too wide"), ([0x10, 0x05, 0], 0, "of no width"),
            ([0x11, 0x02, 0x05, 0], 3, "too short"), ([0x11, 0x04, 0x05, 0], 3, "too long"),
            (
                [
                    0x88, 255, 255, 255, 255, 255, 255, 255, 127, 1, 0, 0, 0, 0, 0, 0, 0, 0x88, 255, 255, 255, 255, 255,
                    255, 255, 127, 255, 255, 255, 255, 255, 255, 255, 127, 0,
                ], 3, "too large"
            ),
        ] as [([UInt8], UInt64, String)])
    func badMappingPairsAreRefused(pairs: [UInt8], end: UInt64, what: String) {
        #expect(throws: ParsingError.self, "\(what)") { try runs(pairs, 0..<end) }
    }

    @Test func partsMustFollowEachOther() throws {
        let first = try runs([0x11, 0x02, 0x05, 0], 0..<2)
        #expect(throws: ParsingError.self) { try runs([0x11, 0x02, 0x05, 0], 3..<5, into: first) }
        #expect(throws: ParsingError.self) { try runs([0x11, 0x02, 0x05, 0], 1..<3, into: first) }
    }

    /// A hole of 2^50 clusters is invalid in an attribute of a system file, and must not be multiplied.
    @Test func attributesOfAbsurdLengthAreRefused() throws {
        var sector = [UInt8](repeating: 0, count: 512)
        sector.replaceSubrange(3..<11, with: Array("NTFS    ".utf8))
        sector.setLittleEndian(UInt16(4096), at: 11)
        sector[13] = 1
        let boot = try #require(try NTFSBootSector(sector))
        let part = NTFSAttribute.Clusters(
            range: 0..<1 << 50, mappingPairs: [0x07, 0, 0, 0, 0, 0, 0, 4, 0], allocatedByteCount: 4096, byteCount: 100,
            initializedByteCount: 100)
        let list = try NTFSRunList(only: part, clusterCount: 1000)
        #expect(list.end == 1 << 50)
        for isPartial in [false, true] {
            #expect(throws: FilesystemError.self) {
                _ = try NTFSStream(
                    MemoryDisk(sector), boot, first: part, flags: 0, runList: list, isPartial: isPartial)
            }
        }
    }
}
