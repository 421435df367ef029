// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import TestSupport
import Testing

@testable import FilesystemResize

/// Lengths are read back from untrusted bytes.
@Suite struct SuperblockLengthTests {
    private static let magics: [(tool: any ResizeTool, offset: Int, bytes: [UInt8])] = [
        (ExtResizeTool(), 1024 + 0x38, [0x53, 0xEF]), (NTFSResizeTool(), 3, Array("NTFS    ".utf8)),
        (XFSResizeTool(), 0, Array("XFSB".utf8)), (BtrfsResizeTool(), (64 << 10) + 0x40, Array("_BHRfS_M".utf8)),
        (F2FSResizeTool(), 1024, [0x10, 0x20, 0xF5, 0xF2]), (SwapResizeTool(), 4086, Array("SWAPSPACE2".utf8)),
    ]

    @Test func anyBytesAreTaken() throws {
        var random = SeededGenerator(seed: 4)
        var lengths = 0
        for _ in 0..<200 {
            for (tool, offset, magic) in Self.magics {
                var bytes = [UInt8](repeating: [0, 0xFF].randomElement(using: &random) ?? 0, count: 70 << 10)
                for _ in 0..<400 {
                    // Most of them where the fields are.
                    let start = offset / 1024 * 1024
                    bytes[start + Int.random(in: 0..<512, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
                bytes.replaceSubrange(offset..<offset + magic.count, with: magic)
                if try tool.byteCount(on: MemoryDisk(bytes)) != nil { lengths += 1 }
            }
        }
        #expect(lengths > 0)
    }

    @Test func whatIsTooShortIsAnError() {
        for (tool, _, _) in Self.magics {
            #expect(throws: BlockIOError.self) { try tool.byteCount(on: MemoryDisk(byteCount: 256)) }
        }
    }

    @Test func whatIsSomethingElseHasNoLength() throws {
        for (tool, _, _) in Self.magics {
            for (other, offset, magic) in Self.magics where type(of: other) != type(of: tool) {
                var bytes = [UInt8](repeating: 0, count: 70 << 10)
                bytes.replaceSubrange(offset..<offset + magic.count, with: magic)
                #expect(try tool.byteCount(on: MemoryDisk(bytes)) == nil)
            }
        }
    }
}
