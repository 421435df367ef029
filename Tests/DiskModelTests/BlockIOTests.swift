// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

/// What every reader of blocks has in common.
@Suite struct BlockIOTests {
    private struct Zeros: BlockReader {
        let byteCount: UInt64
        let logicalSectorSize = 512
        let name = "zeros"
        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
            try checkedRange(at: offset, count: UInt64(buffer.count))
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    @Test func aCallPastTheEndIsAnErrorWithoutANumber() throws {
        let zeros = Zeros(byteCount: 1000)
        #expect(try zeros.checkedRange(at: 0, count: 1000) == 0..<1000)
        #expect(try zeros.checkedRange(at: 1000, count: 0) == 1000..<1000)
        for (offset, count) in [(0 as UInt64, 1001 as UInt64), (1001, 0), (999, 2), (.max, 1), (1, .max), (.max, .max)]
        {
            let error = #expect(throws: BlockIOError.self) { try zeros.checkedRange(.write, at: offset, count: count) }
            #expect(error?.operation == .write && error?.errorNumber == 0 && error?.offset == offset)
            #expect(error?.reason == "that is past its end at byte 1000")
        }
    }

    @Test func bytesAreCountedFromZero() throws {
        let zeros = Zeros(byteCount: 1000)
        #expect(try zeros.readBytes(at: 990, count: 10) == [UInt8](repeating: 0, count: 10))
        #expect(throws: BlockIOError.self) { try zeros.readBytes(at: 990, count: 11) }
        #expect(throws: BlockIOError.self) { try zeros.readBytes(at: .max, count: 1) }
        #expect(throws: BlockIOError.self) { try zeros.readBytes(at: 0, count: -1) }
    }
}
