// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Stand-in until the real one is merged.
public final class RescueReader: BlockReader, Sendable {
    let base: any BlockReader
    public var unreadable: [ByteRange] { [] }
    public init(_ base: any BlockReader) { self.base = base }
    public var byteCount: UInt64 { base.byteCount }
    public var logicalSectorSize: Int { base.logicalSectorSize }
    public var name: String { base.name }
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try base.read(into: buffer, at: offset)
    }
}
