// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// The result of a job of the session.
struct JobOutcome: Equatable {
    /// The exit status (`ExitStatus`).
    var status: Int32
    /// Its meaning for the disk, and the next step, as sentences.
    var text: String
    /// The disk that was written or read, as a line of a list; `nil` if none was chosen.
    var disk: String?
    /// The image id in hexadecimal digits, if known.
    var imageID: String?
    /// Whether a restore with a job id found no space on its disk to record it.
    var lacksNote = false

    init(_ status: Int32, _ text: String, disk: DiskCandidate? = nil, imageID: String? = nil) {
        self.status = status
        self.text = text
        self.disk = disk?.line
        self.imageID = imageID
    }

    /// A job that did not start. The complete message has been shown; this keeps its first line.
    init(_ error: JobFailure) {
        status = error.status.rawValue
        text = error.message.split(separator: "\n").first.map(String.init) ?? error.message
    }

    /// Whether the data is complete: done, or only growing or boot repair is missing.
    var isDataComplete: Bool { [ExitStatus.done, .incomplete].contains { $0.rawValue == status } }

    private enum Color: String {
        case green = "32"
        case yellow = "33"
        case red = "31"
    }

    private var verdict: (word: String, color: Color) {
        switch status {
        case ExitStatus.done.rawValue: ("DONE", .green)
        case ExitStatus.incomplete.rawValue: ("NOT FINISHED", .yellow)
        default: ("NOT DONE", .red)
        }
    }

    /// The final output on the screen: the verdict in a word and in colour, and the sentence, between two rules of 78
    /// columns.
    var banner: String {
        let rule = String(repeating: "=", count: 78)
        return "\(rule)\n\u{1B}[1;\(verdict.color.rawValue)m\(verdict.word)\u{1B}[0m: \(text)\n\(rule)"
    }
}

/// Removes the escape sequences of terminals (ECMA-48: ESC [ … final byte) from the log.
struct EscapeFilter {
    private enum State {
        case text, escape, sequence
    }
    private var state = State.text

    /// The bytes without sequences; an incomplete one continues with the next call.
    mutating func plain(_ bytes: [UInt8]) -> [UInt8] {
        bytes.filter { byte in
            switch state {
            case .text:
                if byte == 0x1B { state = .escape }
                return byte != 0x1B
            case .escape:
                state = byte == UInt8(ascii: "[") ? .sequence : .text
                return false
            case .sequence:
                // Parameters and intermediates lie below 0x40. A line end is never part of a sequence.
                if byte == 10 || byte == 13 {
                    state = .text
                    return true
                }
                if (0x40...0x7E).contains(byte) { state = .text }
                return false
            }
        }
    }
}
