// SPDX-License-Identifier: GPL-3.0-or-later

/// An event of a running operation. A terminal, a log, the medium's session and a server are consumers.
///
/// As JSON, one object a line with `schema`, `event` and the fields of that event; docs/commands.md has the list. A
/// consumer ignores events that it does not know.
public enum Event: Equatable, Sendable {
    /// The plan, before anything is written.
    case planned(PlanText)
    /// A phase of the work begins.
    case phase(String)
    /// The progress of the phase.
    case progress(ProgressFacts)
    /// A step is done.
    case step(String)
    /// A line for a person.
    case log(String)
    /// A note or a warning.
    case notice(Notice)
    /// The last event: how the operation ended.
    case finished(Report)

    /// The version of the events' JSON.
    public static let schema = 1
}

/// A note or a warning for a person, which a program may act on.
public struct Notice: Codable, Equatable, Sendable {
    /// The severity of a notice.
    public enum Severity: String, Codable, Sendable {
        /// Worth knowing.
        case note
        /// May be a mistake, or cost something later.
        case warning
    }
    /// The identifier for programs; stable.
    public var code: String
    /// The severity.
    public var severity: Severity
    /// The text for a person.
    public var sentence: String

    /// Creates a notice.
    public init(_ code: String, _ severity: Severity, _ sentence: String) {
        (self.code, self.severity, self.sentence) = (code, severity, sentence)
    }

    /// The notice as a line of a terminal.
    public var line: String { "\(severity.rawValue): \(sentence)" }
}

/// The progress of a phase.
public struct ProgressFacts: Codable, Equatable, Sendable {
    /// The name of the phase.
    public var phase: String
    /// The bytes that are done.
    public var done: UInt64
    /// The bytes of the whole phase; 0 if unknown.
    public var total: UInt64
    /// Bytes a second since the phase began; `nil` at its beginning.
    public var rate: Double?
    /// The seconds that the rest will take at that rate.
    public var secondsLeft: Double?
    /// The seconds since the phase began.
    public var seconds: Double = 0
    /// The seconds since the last byte.
    public var stillSeconds: Double = 0

    /// Creates the facts of a phase.
    public init(phase: String, done: UInt64, total: UInt64, rate: Double? = nil, secondsLeft: Double? = nil) {
        (self.phase, self.done, self.total) = (phase, done, total)
        (self.rate, self.secondsLeft) = (rate, secondsLeft)
    }
}

/// A plan as lines for a person.
public struct PlanText: Codable, Equatable, Sendable {
    /// The lines.
    public var lines: [String]

    /// Creates a plan text.
    public init(_ lines: [String]) { self.lines = lines }
}

/// How a job ended: the facts that all jobs have in common.
public struct Report: Codable, Equatable, Sendable {
    /// The name of the command: `restore`, `boot-repair`, `key add`.
    public var operation: String
    /// The exit status, and the state of the target.
    public var outcome: Outcome
    /// Sentences on the result and the next step for the user; `nil` if everything is done.
    public var message: String?
    /// The image's id; `nil` if unknown.
    public var imageID: String?
    /// Bytes written to a disk or stored.
    public var writtenByteCount: UInt64?
    /// The seconds that the job took.
    public var seconds: Double?

    /// Creates a report.
    public init(
        operation: String, outcome: Outcome, message: String? = nil, imageID: String? = nil,
        writtenByteCount: UInt64? = nil, seconds: Double? = nil
    ) {
        self.operation = operation
        self.outcome = outcome
        self.message = message
        self.imageID = imageID
        self.writtenByteCount = writtenByteCount
        self.seconds = seconds
    }
}

/// Receives events, on any thread.
public protocol EventSink: Sendable {
    /// Receives one event.
    func take(_ event: Event)
}

extension EventSink {
    /// Sends a line for a person.
    public func log(_ text: String) { take(.log(text)) }
    /// Sends a note.
    public func note(_ code: String, _ sentence: String) { take(.notice(Notice(code, .note, sentence))) }
    /// Sends a warning: of a possible mistake, or of a later cost.
    public func warn(_ code: String, _ sentence: String) { take(.notice(Notice(code, .warning, sentence))) }
}

extension Event: Codable {
    private enum Key: String, CodingKey { case schema, event, plan, name, progress, text, notice, report }
    private enum Name: String, Codable { case planned, phase, progress, step, log, notice, finished }

    /// Reads one line.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: Key.self)
        switch try values.decode(Name.self, forKey: .event) {
        case .planned: self = .planned(try values.decode(PlanText.self, forKey: .plan))
        case .phase: self = .phase(try values.decode(String.self, forKey: .name))
        case .progress: self = .progress(try values.decode(ProgressFacts.self, forKey: .progress))
        case .step: self = .step(try values.decode(String.self, forKey: .text))
        case .log: self = .log(try values.decode(String.self, forKey: .text))
        case .notice: self = .notice(try values.decode(Notice.self, forKey: .notice))
        case .finished: self = .finished(try values.decode(Report.self, forKey: .report))
        }
    }

    /// Writes one line.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: Key.self)
        try values.encode(Self.schema, forKey: .schema)
        func name(_ name: Name) throws { try values.encode(name, forKey: .event) }
        switch self {
        case .planned(let plan):
            try name(.planned)
            try values.encode(plan, forKey: .plan)
        case .phase(let text):
            try name(.phase)
            try values.encode(text, forKey: .name)
        case .progress(let facts):
            try name(.progress)
            try values.encode(facts, forKey: .progress)
        case .step(let text):
            try name(.step)
            try values.encode(text, forKey: .text)
        case .log(let text):
            try name(.log)
            try values.encode(text, forKey: .text)
        case .notice(let notice):
            try name(.notice)
            try values.encode(notice, forKey: .notice)
        case .finished(let report):
            try name(.finished)
            try values.encode(report, forKey: .report)
        }
    }
}
