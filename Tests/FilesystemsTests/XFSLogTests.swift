// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport
import Testing

@testable import Filesystems

/// States of the log's ring that no tool makes on demand.
@Suite(.enabled(if: Tool.have("mkfs.xfs"), "needs xfsprogs")) struct XFSLogTests {
    private static let inPlace = "its log holds changes not yet in place"
    private static let odd = "its log is not in order"

    private func reason(_ change: (inout PatchedReader, Range<Int>) -> Void) throws -> String? {
        let bytes = try XFSFixture.version4.get()
        var reader = PatchedReader(bytes)
        change(&reader, try XFSFixture.places(bytes).log)
        return try VolumeIdentifier.survey(reader).0.wholeReason
    }

    private func words(_ values: UInt32...) -> [UInt8] {
        values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
    }

    /// The ring with its record of an unmount moved to `block`, in cycle 3.
    private func move(_ reader: inout PatchedReader, _ log: Range<Int>, to block: Int) {
        let count = log.count / 512
        var ring = [UInt8](repeating: 0, count: log.count)
        let head = block + 2
        for index in 0..<count {
            let cycle: UInt32 = head <= count ? (index < head ? 3 : 2) : (index < head - count ? 4 : 3)
            ring.replaceSubrange(index * 512..<index * 512 + 4, with: words(cycle))
        }
        var header = Array(reader.base[log.lowerBound..<log.lowerBound + 512])
        let operation = Array(reader.base[log.lowerBound + 512..<log.lowerBound + 1024])
        header.replaceSubrange(4..<8, with: words(3))
        header.replaceSubrange(16..<24, with: words(3, UInt32(block)))
        ring.replaceSubrange(block * 512..<block * 512 + 512, with: header)
        let next = (block + 1) % count
        ring.replaceSubrange(next * 512 + 4..<next * 512 + 512, with: operation[4...])
        reader.patches.append((log.lowerBound, ring))
    }

    @Test func unmountRecordAnywhereIsClean() throws {
        #expect(try reason { _, _ in } == nil)
        let count = try XFSFixture.places(try XFSFixture.version4.get()).log.count / 512
        for block in [0, 1, 77, 4095, 4096, 8192, count - 4097, count - 3, count - 2, count - 1] {
            #expect(try reason { move(&$0, $1, to: block) } == nil, "at block \(block)")
        }
    }

    @Test func anythingElseIsDirty() throws {
        func moved(_ change: (inout PatchedReader, Int) -> Void) throws -> String? {
            try reason { reader, log in
                move(&reader, log, to: 5000)
                change(&reader, log.lowerBound + 5000 * 512)
            }
        }
        #expect(try moved { _, _ in } == nil)
        // Two operations; no unmount; another client; longer than the ring; partly missing.
        #expect(try moved { $0.patches.append(($1 + 40, self.words(2))) } == Self.inPlace)
        #expect(try moved { $0.patches.append(($1 + 512 + 9, [0])) } == Self.inPlace)
        #expect(try moved { $0.patches.append(($1 + 512 + 8, [0x69])) } == Self.inPlace)
        #expect(try moved { $0.patches.append(($1 + 12, self.words(1024))) } == Self.inPlace)
        #expect(try moved { $0.patches.append(($1 + 12, self.words(.max))) } == Self.inPlace)
        #expect(try moved { $0.patches.append(($1 + 512, self.words(2))) } == Self.inPlace)
        // Written at another place, or by another filesystem.
        #expect(try moved { $0.patches.append(($1 + 20, self.words(4999))) } == Self.odd)
        #expect(try moved { $0.patches.append(($1 + 304, self.words(1))) } == "its log belongs to another filesystem")
        // Blocks of another cycle before and behind the head, and no record at all.
        #expect(try moved { $0.patches.append(($1 - 100 * 512, self.words(2))) } == Self.odd)
        #expect(try moved { $0.patches.append(($1 + 100 * 512, self.words(3))) } == Self.odd)
        #expect(try moved { $0.patches.append(($1, self.words(3, 3))) } == Self.odd)
    }

    @Test func zeroedLogIsClean() throws {
        #expect(
            try reason { reader, log in
                reader.patches.append((log.lowerBound, [UInt8](repeating: 0, count: log.count)))
            } == nil)
        #expect(
            try reason { reader, log in
                reader.patches.append((log.lowerBound, [UInt8](repeating: 0, count: log.count)))
                reader.patches.append((log.lowerBound + 5 * 512, [1]))
            } == Self.odd)
    }
}
