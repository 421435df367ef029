// SPDX-License-Identifier: GPL-3.0-or-later

/// The text of a serial line, without the control sequences of terminals, cut in lines. Bounded: the guest may send
/// without end.
package struct ConsoleText: Sendable {
    /// The last lines that were ended.
    package private(set) var lines: [String] = []
    /// The line that has not ended: where a prompt stands.
    package var current: String { String(decoding: line, as: UTF8.self) }
    private var line: [UInt8] = []
    /// Whether a carriage return came last: what follows is written over the line, as progress lines are.
    private var isReturned = false
    private var state = State.text

    private enum State { case text, escape, sequence, string, charset }

    private static let keptLineCount = 500
    private static let longestLine = 4096

    package init() {}

    /// - Returns: the lines that `bytes` ends.
    @discardableResult
    package mutating func take(_ bytes: some Sequence<UInt8>) -> [String] {
        var ended: [String] = []
        for byte in bytes {
            switch state {
            case .text: takeText(byte, &ended)
            case .escape:
                // ECMA-48 §5.4 (CSI), §5.6 (OSC, DCS), and the character sets of VT100.
                switch byte {
                case 0x5B: state = .sequence
                case 0x50, 0x5D, 0x5E, 0x5F: state = .string
                case 0x28, 0x29: state = .charset
                default: state = .text
                }
            case .charset: state = .text
            case .sequence:
                guard byte >= 0x40, byte <= 0x7E else { continue }
                state = .text
                // A jump to another place (H, f) or a cleared screen (J) ends what stands here.
                if byte == 0x48 || byte == 0x66 || byte == 0x4A { end(&ended) }
            case .string: if byte == 0x07 || byte == 0x1B { state = byte == 0x07 ? .text : .escape }
            }
        }
        lines += ended
        if lines.count > Self.keptLineCount { lines.removeFirst(lines.count - Self.keptLineCount) }
        return ended
    }

    private mutating func takeText(_ byte: UInt8, _ ended: inout [String]) {
        switch byte {
        case 0x1B: state = .escape
        case 0x0A:
            isReturned = false
            end(&ended)
        case 0x0D: isReturned = true
        case 0x08: if !line.isEmpty { line.removeLast() }
        case 0x00..<0x20, 0x7F: break
        default:
            if isReturned {
                isReturned = false
                end(&ended)
            }
            line.append(byte)
            if line.count >= Self.longestLine { end(&ended) }
        }
    }

    private mutating func end(_ ended: inout [String]) {
        if !line.isEmpty { ended.append(current) }
        line.removeAll(keepingCapacity: true)
    }

    /// A text from a guest for a terminal: control characters, and those that change the direction of text, as escapes.
    package static func shown(_ text: String) -> String {
        var shown = ""
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse:
                shown += "\\u{\(String(scalar.value, radix: 16))}"
            default: shown.unicodeScalars.append(scalar)
            }
        }
        return shown
    }
}
