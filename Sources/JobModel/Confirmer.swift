// SPDX-License-Identifier: GPL-3.0-or-later

/// Something that a person has to type before data is given up.
public struct Question: Equatable, Sendable {
    /// What is at stake, and what to type.
    public var text: String
    /// Whether standard input is the image, so that it gives no answers.
    public var isStreaming: Bool

    /// Names both.
    public init(_ text: String, isStreaming: Bool) {
        self.text = text
        self.isStreaming = isStreaming
    }
}

/// Asks a person.
public protocol Confirmer: Sendable {
    /// Whether anybody can be asked.
    func canAsk(whileStreaming: Bool) -> Bool
    /// What was typed; `nil` where nothing was, or nobody can be asked.
    func answer(to question: Question) -> String?
}

/// Nobody is there.
public struct NoConfirmer: Confirmer {
    /// Asks nobody.
    public init() {}
    /// No.
    public func canAsk(whileStreaming: Bool) -> Bool { false }
    /// Nothing.
    public func answer(to question: Question) -> String? { nil }
}
