// SPDX-License-Identifier: GPL-3.0-or-later

/// A question that a person answers before data is overwritten.
public struct Question: Equatable, Sendable {
    /// The consequences, and the text to type.
    public var text: String
    /// Whether standard input carries the image, and therefore no answers.
    public var isStreaming: Bool

    /// Creates a question.
    public init(_ text: String, isStreaming: Bool) {
        self.text = text
        self.isStreaming = isStreaming
    }
}

/// Asks a person.
public protocol Confirmer: Sendable {
    /// Whether a person can be asked.
    func canAsk(whileStreaming: Bool) -> Bool
    /// The typed answer; `nil` if there is none, or if no person can be asked.
    func answer(to question: Question) -> String?
}

/// A confirmer without a person to ask.
public struct NoConfirmer: Confirmer {
    /// Creates a confirmer.
    public init() {}
    /// Always `false`.
    public func canAsk(whileStreaming: Bool) -> Bool { false }
    /// Always `nil`.
    public func answer(to question: Question) -> String? { nil }
}
