// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import NBD
import TestSupport

extension Judge {
    /// A served disk of the fuzzers: data, then a hole.
    private struct FuzzDisk: ServedDisk {
        let memory: MemoryDisk
        var byteCount: UInt64 { memory.byteCount }
        var logicalSectorSize: Int { 512 }
        var name: String { "fuzz" }

        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
            try memory.read(into: buffer, at: offset)
        }

        func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent] {
            let hole = range.clamped(to: byteCount / 2..<byteCount)
            let data = DiskExtent(.data, byteCount: range.byteCount - hole.byteCount)
            return [data, DiskExtent(.unused, byteCount: hole.byteCount)].filter { $0.byteCount > 0 }
        }
    }

    /// What a client sends to a server: it ends the connection or is answered, and the disk is read inside its bounds.
    static func nbdServer(_ reader: any BlockReader) throws {
        let transport = ScriptedTransport(try nbdBytes(reader))
        var failure: BlockIOError?
        let session = NBDSession(FuzzDisk(memory: MemoryDisk(byteCount: 64 << 10)), transport) { failure = $0 }
        do throws(NBDError) {
            if try session.negotiate() { try session.transmit() }
        } catch { _ = "\(error)" }
        if let failure { throw Verdict("a read that the disk refuses: \(failure)") }
        try demand(transport.output.starts(with: Array("NBDMAGICIHAVEOPT".utf8)), "no greeting")
    }

    /// What a server sends to a client: extents stay inside what was asked for.
    static func nbdClient(_ reader: any BlockReader) throws {
        let transport = ScriptedTransport(try nbdBytes(reader))
        do throws(NBDError) {
            let conversation = try NBDConversation(transport, export: "disk")
            var buffer = [UInt8](repeating: 0, count: 4096)
            let read = buffer.withUnsafeMutableBytes { buffer in
                Result { () throws(NBDError) in try conversation.read(into: buffer, at: 0) }
            }
            try read.get()
            let extents = try conversation.extents(in: 0..<65536)
            guard !extents.isEmpty, extents.allSatisfy({ $0.byteCount > 0 }),
                extents.reduce(0, { $0 + $1.byteCount }) <= 65536
            else { throw .invalid(wrongExtents) }
        } catch {
            if case .invalid(wrongExtents) = error { throw Verdict("\(error)") }
        }
    }

    private static let wrongExtents = "extents that were not asked for were taken"

    private static func nbdBytes(_ reader: any BlockReader) throws -> [UInt8] {
        try reader.readBytes(at: 0, count: Int(clamping: min(reader.byteCount, 1 << 20)))
    }
}
