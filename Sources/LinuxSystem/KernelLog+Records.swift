// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension KernelLog {
    /// One message of the kernel.
    package struct Record: Equatable, Sendable {
        /// Microseconds since the start of the kernel.
        package var microseconds: UInt64
        /// Its text, one line.
        package var message: String
        /// The device that it is about, `+pci:0000:00:05.0`; `nil` for none.
        package var device: String?

        /// From a record of /dev/kmsg: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];MESSAGE\n`, then lines with a space and
        /// `KEY=VALUE` (Documentation/ABI/testing/dev-kmsg). `nil` for anything else, and for messages of programs.
        package init?(_ bytes: ArraySlice<UInt8>) {
            guard let start = bytes.firstIndex(of: UInt8(ascii: ";")) else { return nil }
            let fields = bytes[..<start].split(separator: UInt8(ascii: ","))
            guard fields.count >= 3, let priority = UInt32(String(decoding: fields[0], as: UTF8.self)), priority < 8,
                let time = UInt64(String(decoding: fields[2], as: UTF8.self))
            else { return nil }
            let lines = bytes[(start + 1)...].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            microseconds = time
            message = String(decoding: lines.first ?? [], as: UTF8.self)
            for line in lines.dropFirst() {
                let text = String(decoding: line, as: UTF8.self)
                if text.hasPrefix(" DEVICE=") { device = String(text.dropFirst(8)) }
            }
        }

        /// Its line as dmesg prints it: `[    1.234567] MESSAGE`.
        package var line: String {
            let seconds = String(microseconds / 1_000_000)
            let rest = String(microseconds % 1_000_000)
            let padding = String(repeating: " ", count: max(0, 5 - seconds.utf8.count))
            return "[\(padding)\(seconds).\(String(repeating: "0", count: 6 - rest.utf8.count))\(rest)] \(message)"
        }
    }

    /// All messages that the kernel still holds, oldest first; empty without the right to read them.
    /// - Parameter limit: upper bound on their number.
    package static func records(limit: Int = 200_000) -> [Record] {
        guard let log = try? OwnedDescriptor.open("/dev/kmsg", .readOnly, options: [.nonBlocking]) else { return [] }
        var found: [Record] = []
        // A record is longer than no buffer of this size (`PRINTK_MESSAGE_MAX`).
        var buffer = [UInt8](repeating: 0, count: 8192)
        for _ in 0..<limit {
            do {
                let count = try buffer.withUnsafeMutableBytes { try log.raw.read(into: $0) }
                guard count > 0 else { break }
                if let record = Record(buffer[..<count]) { found.append(record) }
            } catch let error as Errno where error == .brokenPipe {
                // Records were dropped, as newer ones needed their place.
                continue
            } catch { break }
        }
        return found
    }
}
