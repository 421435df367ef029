// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import ImageFiles

/// Bytes kept until the end of a capture, in memory and in a file.
@Suite struct SpilledBytesTests {
    @Test(arguments: [0, 10, 1000]) func bytesComeBackInOrder(pieceCount: Int) throws {
        let folder = try ScratchFolder()
        var random = SeededGenerator(seed: 5)
        var bytes = SpilledBytes(in: folder.path, limit: 4000)
        var expected: [UInt8] = []
        for _ in 0..<pieceCount {
            let piece = (0..<Int.random(in: 0...100, using: &random)).map { UInt8(truncatingIfNeeded: $0) }
            expected += piece
            try bytes.append(piece)
        }
        #expect(bytes.byteCount == UInt64(expected.count))
        #expect(Files.names(in: folder.path).isEmpty)
        var found: [UInt8] = []
        try bytes.drain { found += $0 }
        let isSame = found == expected
        #expect(isSame)
    }

    @Test func aFolderThatIsNotThereIsAnErrorOnlyWhenItIsNeeded() throws {
        var bytes = SpilledBytes(in: "/no/such/folder", limit: 10)
        try bytes.append([1, 2, 3])
        #expect(throws: SystemCallError.self) {
            var more = SpilledBytes(in: "/no/such/folder", limit: 10)
            try more.append([UInt8](repeating: 1, count: 11))
        }
        var found: [UInt8] = []
        try bytes.drain { found += $0 }
        #expect(found == [1, 2, 3])
    }
}
