// SPDX-License-Identifier: GPL-3.0-or-later

/// Removes secrets from texts that leave the machine: user parts and queries of addresses, values of parameters that are
/// named like secrets, typed passwords.
enum SecretFilter {
    /// What replaces a secret.
    static let mask = "***"
    /// In the prompt for a password, which is followed by the typed line in the log.
    static let passwordPrompt = "it shows as you type"

    /// The text without secrets, line by line.
    static func filtered(_ text: String) -> String {
        var typesPassword = false
        // CR LF is one Character. A lone CR moves the cursor to the start of the line: another line for the reader.
        return text.split(omittingEmptySubsequences: false) { ["\n", "\r\n", "\r"].contains($0) }.map { line in
            filtered(line: line, &typesPassword)
        }.joined(separator: "\n")
    }

    private static func filtered(line: Substring, _ typesPassword: inout Bool) -> String {
        if let prompt = line.firstRange(of: passwordPrompt) {
            typesPassword = true
            return withoutAddresses(line[..<prompt.upperBound]) + (prompt.upperBound < line.endIndex ? " \(mask)" : "")
        }
        if line.contains("an empty line returns to the menu") || line.contains("What is to be done?") {
            typesPassword = false
        }
        // `[CONSOLE] LINE`: what was typed; other messages may have come between.
        if typesPassword, line.hasPrefix("["), let end = line.firstIndex(of: "]") {
            return "\(line[...end]) \(mask)"
        }
        return withoutNamedSecrets(withoutAddresses(line))
    }

    /// `SCHEME://USER:PASSWORD@HOST/PATH?QUERY#FRAGMENT` (RFC 3986, 3) without its user part, query and fragment.
    private static func withoutAddresses(_ line: Substring) -> String {
        var result = ""
        var rest = line
        while let mark = rest.firstRange(of: "://") {
            result += rest[..<mark.upperBound]
            rest = rest[mark.upperBound...]
            let address = rest.prefix { !endsAddress($0) }
            rest = rest[address.endIndex...]
            let path = address.firstIndex { "/?#".contains($0) } ?? address.endIndex
            // A password may hold unescaped slashes against the rules: then the last `@` ends it.
            if let at = address.lastIndex(of: "@"), at < path || address[..<at].contains(":") {
                result += "\(mask)@"
                result += withoutQuery(address[address.index(after: at)...])
            } else {
                result += withoutQuery(address)
            }
        }
        return result + rest
    }

    private static func withoutQuery(_ address: Substring) -> String {
        guard let query = address.firstIndex(where: { $0 == "?" || $0 == "#" }) else { return String(address) }
        return "\(address[...query])\(mask)"
    }

    private static func endsAddress(_ character: Character) -> Bool {
        character.isWhitespace || "\"'<>".contains(character)
    }

    private static let names = ["password", "passwd", "passphrase", "secret", "token", "psk", "credential"]

    /// `NAME=VALUE` without the value, where the name says that it is a secret. A word is one parameter of a kernel
    /// command line: white space in double quotes does not end it (lib/cmdline.c, `next_arg`).
    private static func withoutNamedSecrets(_ line: String) -> String {
        let lower = line.lowercased()
        guard names.contains(where: lower.contains), line.contains("=") else { return line }
        var result = ""
        var rest = line[...]
        while let start = rest.firstIndex(where: { !$0.isWhitespace }) {
            result += rest[..<start]
            var inQuotes = false
            let end =
                rest[start...].firstIndex { character in
                    if character == "\"" { inQuotes.toggle() }
                    return character.isWhitespace && !inQuotes
                } ?? rest.endIndex
            result += withoutValue(rest[start..<end])
            rest = rest[end...]
        }
        return result + rest
    }

    /// A word up to the `=` behind the first name of a secret: `rootflags=user=a,password=***`.
    private static func withoutValue(_ word: Substring) -> String {
        var position = word.startIndex
        while let equals = word[position...].firstIndex(of: "=") {
            let name = word[position..<equals].lowercased()
            position = word.index(after: equals)
            if names.contains(where: name.contains) { return "\(word[..<position])\(mask)" }
        }
        return String(word)
    }
}
