// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// A file of firmware that a driver asked for in vain.
struct MissingFirmware: Hashable {
    /// Its name below a folder of firmware.
    var name: String
    /// The bus of the device, `pci`; `nil` if the kernel named none.
    var bus: String?
    /// The name of the device on the bus, `0000:00:05.0`.
    var device: String?

    /// Upper bound on the list: names come from drivers, but the log also has messages about what devices say.
    private static let limit = 64

    /// From the kernel's messages, each file and device once.
    static func find(in records: [KernelLog.Record]) -> [MissingFirmware] {
        var found: [MissingFirmware] = []
        for record in records where found.count < limit {
            guard let name = name(in: record.message) else { continue }
            var missing = MissingFirmware(name: name)
            // `+BUS:DEVICE` for a device without a device number (Documentation/ABI/testing/dev-kmsg).
            if let device = record.device, device.hasPrefix("+"), let colon = device.firstIndex(of: ":") {
                let bus = String(device[device.index(after: device.startIndex)..<colon])
                let own = String(device[device.index(after: colon)...])
                if isPlain(bus), isPlain(own) { (missing.bus, missing.device) = (bus, own) }
            }
            if !found.contains(missing) { found.append(missing) }
        }
        return found
    }

    /// The file named by a message of drivers/base/firmware_loader/main.c: `Direct firmware load for NAME failed with
    /// error -2`, or Debian's `firmware: failed to load NAME (-2)`. Only for ENOENT.
    static func name(in message: String) -> String? {
        for (start, end) in [
            ("Direct firmware load for ", " failed with error -2"), ("firmware: failed to load ", " (-2)"),
        ] {
            guard message.hasSuffix(end), let head = message.firstRange(of: start)?.upperBound else { continue }
            let tail = message.index(message.endIndex, offsetBy: -end.count)
            guard head < tail else { continue }
            let name = String(message[head..<tail])
            let parts = name.split(separator: "/", omittingEmptySubsequences: false)
            if name.utf8.count <= 255, parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && isPlain($0) }) {
                return name
            }
        }
        return nil
    }

    private static func isPlain(_ text: some StringProtocol) -> Bool {
        !text.isEmpty && text != "." && text != ".."
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || Array(".:_-+".utf8).contains(byte)
            }
    }
}
