// SPDX-License-Identifier: GPL-3.0-or-later

/// One thing that stops a start, may stop it, or is worth knowing.
package struct Finding: Codable, Equatable, Sendable {
    package enum Severity: String, Codable, CaseIterable, Sendable {
        /// The system does not start.
        case stops
        /// The system does not start, waits, or lacks something, in circumstances that the survey cannot see.
        case mayStop = "may-stop"
        /// It starts; something is to be known.
        case note

        /// The name for the user.
        package var text: String { self == .mayStop ? "may stop" : rawValue }
    }

    /// The place where it was seen.
    package struct Evidence: Codable, Equatable, Sendable, CustomStringConvertible {
        /// A partition number; `nil` for the whole disk, or a file of the installed system.
        package var partition: Int?
        /// A path in the installed system with slashes, or on the EFI system partition with backslashes.
        package var file: String?
        /// A line of the file, from 1.
        package var line: Int?
        /// In bytes: in the file; else from the start of the disk.
        package var offset: UInt64?

        package init(partition: Int? = nil, file: String? = nil, line: Int? = nil, offset: UInt64? = nil) {
            self.partition = partition
            self.file = file
            self.line = line
            self.offset = offset
        }

        /// A line of a file of the installed system.
        package static func file(_ path: String, line: Int? = nil) -> Evidence { Evidence(file: path, line: line) }
        /// A place on the disk, in bytes.
        package static func disk(_ offset: UInt64) -> Evidence { Evidence(offset: offset) }

        package var description: String {
            let parts: [String?] = [
                partition.map { "partition \($0)" }, file.map { line == nil ? $0 : "\($0):\(line ?? 0)" },
                offset.map { "byte \($0)" },
            ]
            return parts.compactMap { $0 }.joined(separator: ", ")
        }
    }

    /// What repairs it.
    package enum Fix: Equatable, Sendable {
        /// Steps of the plan, by their descriptions.
        case steps([String])
        /// It needs to be repaired, which cannot be done here: boot repair is not finished. The reason, as a sentence
        /// part.
        case pending(String)
        /// There is no repair, or none is needed. The reason, or what a person can do, as a sentence part. Boot repair is
        /// not finished only if the finding stops the start.
        case none(String)
    }

    /// `FindingCode.name`.
    package var code: String
    package var stage: FindingCode.Stage
    package var severity: Severity
    /// What was found, as a sentence.
    package var sentence: String
    package var evidence: Evidence?
    package var fix: Fix

    package init(
        _ code: FindingCode, _ sentence: String, severity: Severity? = nil, at evidence: Evidence? = nil, fix: Fix
    ) {
        self.code = code.name
        stage = code.stage
        self.severity = severity ?? code.severity
        self.sentence = sentence
        self.evidence = evidence
        self.fix = fix
    }

    /// The finding with `?` in place of control characters: its texts quote files of the disk.
    var shown: Finding {
        func shown(_ text: String) -> String { DoctorText.shown(text, limit: 1000) }
        var finding = self
        finding.sentence = shown(sentence)
        finding.evidence?.file = evidence?.file.map(shown)
        finding.fix =
            switch fix {
            case .steps(let steps): .steps(steps.map(shown))
            case .pending(let reason): .pending(shown(reason))
            case .none(let reason): .none(shown(reason))
            }
        return finding
    }

    /// The sentence of work that remains; `nil` if there is none. What stops the start and has no repair is such work:
    /// boot repair must not report a disk as done that does not start. A disk without a table is not meant to start.
    package var pending: String? {
        switch fix {
        case .pending(let reason): "\(sentence): \(reason)"
        case .none(let reason) where severity == .stops && stage != .table:
            reason.isEmpty ? sentence : "\(sentence): \(reason)"
        case .steps, .none: nil
        }
    }

    /// Whether no step of the plan repairs it.
    package var isOpen: Bool { if case .steps = fix { false } else { true } }

    /// The lines for the user.
    package var lines: [String] { shown.plainLines }

    private var plainLines: [String] {
        let place = evidence.map { " [\($0)]" } ?? ""
        let first = "\(severity.text) (\(code)): \(sentence)\(place)"
        switch fix {
        case .steps(let steps): return [first] + steps.map { "  fix: \($0)" }
        case .pending(let reason): return [first, "  cannot be repaired here: \(reason)"]
        case .none(let reason): return reason.isEmpty ? [first] : [first, "  no fix: \(reason)"]
        }
    }
}

extension Finding.Fix: Codable {
    private enum CodingKeys: CodingKey { case steps, pending, reason }

    /// `{"steps": […]}`, `{"pending": "…"}` or `{"reason": "…"}`.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .steps(let steps): try container.encode(steps, forKey: .steps)
        case .pending(let reason): try container.encode(reason, forKey: .pending)
        case .none(let reason): try container.encode(reason, forKey: .reason)
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let steps = try container.decodeIfPresent([String].self, forKey: .steps) {
            self = .steps(steps)
        } else if let reason = try container.decodeIfPresent(String.self, forKey: .pending) {
            self = .pending(reason)
        } else {
            self = .none(try container.decode(String.self, forKey: .reason))
        }
    }
}
