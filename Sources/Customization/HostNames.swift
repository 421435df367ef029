// SPDX-License-Identifier: GPL-3.0-or-later

/// A host name and its replacement, in /etc/hosts and alike.
struct HostNames: Equatable, Sendable {
    /// The captured name: the first line of /etc/hostname that is no comment.
    let old: String
    let new: String

    /// hostname(5): one line; comments begin with `#`.
    static func name(in text: String) -> String? {
        text.split(whereSeparator: \.isNewline).lazy.map { line in
            String(line.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" && $0 != "#" })
        }.first { !$0.isEmpty }
    }

    /// The text of /etc/hosts with the new name for the machine's own addresses (127.0.0.0/8 and ::1). All else is kept.
    func replaced(inHosts text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            let content = line.prefix { $0 != "#" }
            guard let address = content.split(whereSeparator: Self.isBlank).first,
                address.hasPrefix("127.") || address == "::1"
            else { return String(line) }
            return words(of: content, after: address.endIndex) + line[content.endIndex...]
        }.joined(separator: "\n")
    }

    /// The lines of /etc/hosts that give the old name to another address, which may be right.
    func otherAddresses(inHosts text: String) -> [String] {
        text.split(whereSeparator: \.isNewline).compactMap { line in
            let words = line.prefix { $0 != "#" }.split(whereSeparator: Self.isBlank).map(String.init)
            guard let address = words.first, !address.hasPrefix("127."), address != "::1",
                words.dropFirst().contains(where: { renamed($0) != nil })
            else { return nil }
            return address
        }
    }

    private static func isBlank(_ character: Character) -> Bool {
        character == " " || character == "\t" || character == "\r"
    }

    private func words(of content: Substring, after start: Substring.Index) -> String {
        var result = String(content[..<start])
        var word = ""
        for character in content[start...] {
            if Self.isBlank(character) {
                result += renamed(word) ?? word
                word = ""
                result.append(character)
            } else {
                word.append(character)
            }
        }
        return result + (renamed(word) ?? word)
    }

    /// The new form of a word that is the old name, with or without its domain.
    func renamed(_ word: String) -> String? {
        guard !old.isEmpty, old != "localhost", !word.hasPrefix("localhost") else { return nil }
        let (oldShort, newShort) = (Self.short(old), Self.short(new))
        let lower = word.lowercased()
        if lower == oldShort.lowercased() { return newShort }
        guard lower.hasPrefix(oldShort.lowercased() + ".") else { return nil }
        // A new name without a domain keeps that of the old one.
        if new.contains(".") { return new }
        return newShort + word.dropFirst(oldShort.count)
    }

    private static func short(_ name: String) -> String { String(name.prefix { $0 != "." }) }
}
