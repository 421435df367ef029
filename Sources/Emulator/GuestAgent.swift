// SPDX-License-Identifier: GPL-3.0-or-later

/// The conversation with the guest agent of QEMU (docs/interop/qemu-ga-ref), as a pure value. The other side is a guest:
/// what does not match a question is dropped.
struct GuestAgent: Sendable {
    private var lines = JSONLines(limit: 1 << 16)
    private var number: Int64 = 0
    private var step = Step.idle

    private enum Step { case idle, sync, ping, system }

    /// The questions of one round: whether it is there, whether it answers, and what system it is part of.
    mutating func question() -> [UInt8] {
        number += 1
        step = .sync
        lines = JSONLines(limit: 1 << 16)
        let commands: [QMPValue] = [
            .object(["execute": .string("guest-sync"), "arguments": .object(["id": .integer(number)])]),
            .object(["execute": .string("guest-ping")]), .object(["execute": .string("guest-get-osinfo")]),
        ]
        return commands.flatMap { Array(($0.text + "\n").utf8) }
    }

    /// - Returns: the systems named by finished rounds; an empty text for a system without a name.
    mutating func take(_ bytes: [UInt8]) -> [String] {
        guard let values = try? lines.take(bytes) else {
            step = .idle
            lines = JSONLines(limit: 1 << 16)
            return []
        }
        return values.compactMap { value in
            switch step {
            case .idle: return nil
            case .sync:
                // Answers to earlier rounds may precede it.
                if value["return"] == .integer(number) { step = .ping }
                return nil
            case .ping:
                step = value["return"] == .object([:]) ? .system : .idle
                return nil
            case .system:
                // An old agent does not know this question; it has answered all the same.
                step = .idle
                // Scalars: one character can have any number of them.
                return String((value["return"]?["pretty-name"]?.string ?? "").unicodeScalars.prefix(80))
            }
        }
    }
}
