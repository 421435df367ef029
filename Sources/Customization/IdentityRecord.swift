// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The record of a change of identifiers that is under way, in the root of the system: after a power cut, the next run
/// finds which references were left behind. Lines of an old and a new identifier.
enum IdentityRecord {
    private static let mostLines = 256
    private static let longest = 1 << 16

    static func read(_ anchor: borrowing AnchoredFolder) -> [IdentifierChange] {
        guard anchor.kind(of: IdentityFiles.record) == .file,
            let bytes = try? anchor.readWhole(IdentityFiles.record, limit: longest)
        else { return [] }
        return parse(String(decoding: bytes, as: UTF8.self))
    }

    /// Lines that are no pair of identifiers are skipped: the file is the restored disk's.
    static func parse(_ text: String) -> [IdentifierChange] {
        text.split(separator: "\n").prefix(mostLines).compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 2, words.allSatisfy(isIdentifier) else { return nil }
            return IdentifierChange(String(words[0]), to: String(words[1]))
        }
    }

    static func text(_ changes: [IdentifierChange]) -> String {
        changes.map { "\($0.old) \($0.new)\n" }.joined()
    }

    private static func isIdentifier(_ word: Substring) -> Bool {
        [9, 16, 36].contains(word.utf8.count) && word.allSatisfy { $0.isASCII && ($0.isHexDigit || $0 == "-") }
    }
}
