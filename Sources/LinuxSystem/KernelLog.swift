// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// The errors that the kernel logs from now on. Some filesystems skip the damaged part of a folder, and only the log
/// says so.
package final class KernelLog {
    private let records: FileDescriptor?

    /// Only root can read the log: for others, no error is seen.
    package init() {
        records = try? OwnedDescriptor.open("/dev/kmsg", .readOnly, options: [.nonBlocking]).release()
        _ = try? records?.seek(offset: 0, from: .end)
    }

    deinit { try? records?.close() }

    /// The errors since the last call, in their order.
    package func errors() -> [String] {
        guard let log = records else { return [] }
        var found: [String] = []
        // A record is longer than no buffer of this size (`PRINTK_MESSAGE_MAX`).
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            do {
                let count = try buffer.withUnsafeMutableBytes { try log.read(into: $0) }
                guard count > 0 else { return found }
                if let text = Self.error(in: buffer[..<count]) { found.append(text) }
            } catch let error as Errno where error == .brokenPipe {
                // Records were dropped, as newer ones needed their place.
                continue
            } catch { return found }
        }
    }

    /// The message of a record, if the kernel calls it an error or worse.
    ///
    /// A record is `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];MESSAGE\n` and further lines (Documentation/ABI/testing/
    /// dev-kmsg). A priority is a facility, 0 for the kernel, times 8, and a level, 3 for errors.
    static func error(in record: ArraySlice<UInt8>) -> String? {
        guard let comma = record.firstIndex(of: UInt8(ascii: ",")),
            let start = record.firstIndex(of: UInt8(ascii: ";")),
            let priority = Int(String(decoding: record[..<comma], as: UTF8.self)), (0...3).contains(priority)
        else { return nil }
        return String(decoding: record[(start + 1)...].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
}
