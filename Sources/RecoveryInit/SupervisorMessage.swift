// SPDX-License-Identifier: GPL-3.0-or-later

/// A line that PID 1 sends to the session (on its standard input).
package enum SupervisorMessage: Equatable, Sendable {
    /// A line was typed at a console.
    case line(console: String, text: String)
    /// A rescue shell at a console has ended.
    case shellEnded(console: String)

    /// The line on the wire, without its end.
    package var encoded: String {
        switch self {
        case .line(let console, let text): "line \(console) \(text.filter { !$0.isNewline })"
        case .shellEnded(let console): "shell-ended \(console)"
        }
    }

    /// Decodes a line on the wire; `nil` if invalid.
    package init?(_ line: String) {
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        switch (parts.first, parts.count) {
        case ("line", 3): self = .line(console: parts[1], text: parts[2])
        case ("shell-ended", 2): self = .shellEnded(console: parts[1])
        default: return nil
        }
    }
}

/// A line that the session sends to PID 1 (through `/run/reforge/control`).
package enum SessionRequest: Equatable, Sendable {
    /// A rescue shell on one console, or on all if `console` is `nil`.
    case shell(console: String?)

    /// The line on the wire, without its end.
    package var encoded: String {
        switch self {
        case .shell(let console): "shell \(console ?? "*")"
        }
    }

    /// Decodes a line on the wire; `nil` if invalid.
    package init?(_ line: String) {
        let parts = line.split(separator: " ").map(String.init)
        guard parts.count == 2, parts[0] == "shell" else { return nil }
        self = .shell(console: parts[1] == "*" ? nil : parts[1])
    }
}

/// The way the machine ends.
package enum MachineEnd: String, Equatable, Sendable {
    /// The machine restarts.
    case reboot
    /// The machine is switched off.
    case poweroff
}

/// The answer at a console while there is no session.
enum StandInAnswer: Equatable {
    case shell, menu
    case end(MachineEnd)

    /// From a typed line; `nil` for anything unknown.
    init?(_ line: String) {
        switch String(line.filter { !$0.isWhitespace }).lowercased() {
        case "", "shell", "sh": self = .shell
        case "menu": self = .menu
        case "reboot": self = .end(.reboot)
        case "poweroff": self = .end(.poweroff)
        default: return nil
        }
    }
}

/// Splits a byte stream into whole lines.
struct LineSplitter {
    private var pending: [UInt8] = []
    /// Longer lines are cut; lines from a terminal have at most 4096 bytes.
    static let limit = 1 << 16

    /// Adds bytes; returns the completed lines, without their ends.
    mutating func add(_ bytes: some Sequence<UInt8>) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte == 10 {
                lines.append(String(decoding: pending.last == 13 ? pending.dropLast() : pending[...], as: UTF8.self))
                pending = []
            } else if pending.count < Self.limit {
                pending.append(byte)
            }
        }
        return lines
    }
}
