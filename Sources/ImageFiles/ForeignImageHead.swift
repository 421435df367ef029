// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The first bytes of a disk, with zeros for all behind them: enough to tell what its partition table looks like.
struct ForeignImageHead: BlockReader {
    let bytes: [UInt8]
    let byteCount: UInt64
    let logicalSectorSize: Int
    let name: String

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard offset <= byteCount, UInt64(buffer.count) <= byteCount - offset else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "that is past its end at byte \(byteCount)")
        }
        let start = Int(min(offset, UInt64(bytes.count)))
        let count = min(buffer.count, bytes.count - start)
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        unsafe buffer.copyBytes(from: bytes[start..<start + count])
    }
}
