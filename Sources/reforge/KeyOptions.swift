// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import Operations

/// The source of a password. Never an argument, because every user of the machine can see the arguments of a process.
struct KeyOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A file with the password of an encrypted repository or image (default: $\(KeyOptions.variable), else ask on the terminal).",
            valueName: "file"))
    var passwordFile: String?

    /// The environment variable that names a password file if the option does not.
    static let variable = "REFORGE_PASSWORD_FILE"

    /// - Parameters:
    ///   - purpose: the repository or image, for the question.
    ///   - confirming: asks twice, to detect a typing error in a new password.
    func password(for purpose: String, confirming: Bool, cancellation: Cancellation) throws -> [UInt8] {
        if let file = passwordFile ?? Self.environmentFile { return try Self.read(file) }
        return try Self.ask(
            "password for \(purpose)", confirming: confirming,
            advice: "give --password-file FILE, or set \(Self.variable)", cancellation: cancellation)
    }

    /// Whether a file supplies the password, so that one password serves every question.
    var isGiven: Bool { passwordFile != nil || Self.environmentFile != nil }

    /// The path in the environment; an empty one counts as unset.
    private static var environmentFile: String? {
        SystemFacts.environment(variable).flatMap { $0.isEmpty ? nil : $0 }
    }

    static func read(_ file: String) throws -> [UInt8] { try PasswordBytes.read(file, Console.events) }

    static func ask(
        _ what: String, confirming: Bool, advice: String, cancellation: Cancellation
    ) throws -> [UInt8] {
        func once(_ question: String) throws -> [UInt8] {
            let line = try TerminalSecret.ask(
                question, limit: PasswordBytes.largestCount, cancellation: cancellation)
            guard let line else {
                throw JobFailure(.refused, "the \(what) is needed, and there is no terminal to ask on: \(advice)")
            }
            return try PasswordBytes.from(line, source: "what was typed")
        }
        let password = try once("\(what): ")
        if confirming, try once("\(what), once more: ") != password {
            throw JobFailure(.refused, "the two passwords differ: nothing was done")
        }
        return password
    }
}

extension KeyOptions: PasswordSource {
    var otherSource: String { "$\(Self.variable)" }
}
