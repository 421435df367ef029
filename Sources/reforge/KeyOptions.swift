// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import Operations
import SystemPackage

/// The source of the password of an encrypted repository or image. Never an argument: every user of the machine can see
/// those.
struct KeyOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A file with the password of an encrypted repository or image (default: $\(KeyOptions.variable), else ask on the terminal).",
            valueName: "file"))
    var passwordFile: String?

    /// The environment variable that names a password file if the option does not.
    static let variable = "REFORGE_PASSWORD_FILE"

    /// The password.
    /// - Parameters:
    ///   - confirming: asks twice, because nothing else would reveal a typing error in a new password.
    ///   - purpose: what the password opens, for the question: "REPO".
    func password(for purpose: String, confirming: Bool) throws -> [UInt8] {
        if let file = passwordFile ?? Self.environmentFile { return try Self.read(file) }
        return try Self.ask(
            "password for \(purpose)", confirming: confirming,
            advice: "give --password-file FILE, or set \(Self.variable)")
    }

    /// Whether a file supplies the password, so that one password serves every question.
    var isGiven: Bool { passwordFile != nil || Self.environmentFile != nil }

    /// The path in the environment; an empty one counts as unset.
    private static var environmentFile: String? {
        SystemFacts.environment(variable).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The password in a file.
    static func read(_ file: String) throws -> [UInt8] {
        let path = FilePath(file)
        if let status = try? Stat(path), status.type == .regular,
            !status.permissions.isDisjoint(with: [.groupRead, .otherRead])
        {
            Console.message("warning: the password file \(file) is readable by other users: chmod 600 keeps them out")
        }
        return try PasswordBytes.read(path)
    }

    /// Asks on the terminal.
    static func ask(_ what: String, confirming: Bool, advice: String) throws -> [UInt8] {
        func once(_ question: String) throws -> [UInt8] {
            guard let line = try TerminalSecret.ask(question, limit: PasswordBytes.largestCount) else {
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
