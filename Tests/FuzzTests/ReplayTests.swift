// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Former findings of the fuzzers in Tests/Fuzz, and a sample of harmless inputs, fed to the same judges.
/// A trap ends the whole run.
@Suite struct ReplayTests {
    private static let folder = FilePath(#filePath).removingLastComponent().appending("Inputs")
    static let files = Files.names(in: folder).sorted()

    @Test func thereIsSomethingToReplay() { #expect(!Self.files.isEmpty) }

    @Test(arguments: files) func replay(_ name: String) throws {
        let judge = try #require(Judge.all.first { name.hasPrefix("\($0.name)-") }, "no judge is named as \(name)")
        let disk = try SparseDisk(try Files.read(Self.folder.appending(name)))
        try ProcessorTime.limited(to: 60, name) { try judge.run(disk) }
    }

    /// The judges do find errors.
    @Test func whatMakesNoSenseIsFound() throws {
        var map = AllocationMap(byteCount: 100)
        map.insert(0..<50)
        let whole = FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .whole, wholeReason: "so")
        let known = FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures)
        #expect(throws: Never.self) { try Judge.check(known, map, byteCount: 100) }
        #expect(throws: Judge.Verdict.self) { try Judge.check(known, map, byteCount: 99) }
        #expect(throws: Judge.Verdict.self) { try Judge.check(whole, map, byteCount: 100) }
        var silent = known
        silent.mapSource = .whole
        #expect(throws: Judge.Verdict.self) { try Judge.check(silent, .whole(byteCount: 100), byteCount: 100) }
    }

    @Test func sparseDisksAreWrittenAndReadAgain() throws {
        var bytes = [UInt8](repeating: 0, count: 100_000)
        for place in [0, 5000, 5001, 99_999] { bytes[place] = 7 }
        let disk = MemoryDisk(bytes, logicalSectorSize: 4096)
        let sparse = try SparseDisk(disk, ranges: .whole(byteCount: 100_000))
        let again = try SparseDisk(sparse.file)
        #expect(sparse.file.count < 1000 && again.logicalSectorSize == 4096)
        #expect(try again.readBytes(at: 0, count: bytes.count) == bytes)
        #expect(try again.readBytes(at: 4990, count: 20) == Array(bytes[4990..<5010]))
    }
}
