// SPDX-License-Identifier: GPL-3.0-or-later

extension GrubConfiguration {
    /// The arguments of `search.fs_uuid` in a GRUB image's embedded configuration or in a grub.cfg.
    static func searchedUUIDs(in bytes: [UInt8]) -> [String] {
        let marks = ["search.fs_uuid ", "--fs-uuid "].map { Array($0.utf8) }
        var found: [String] = []
        for mark in marks {
            var position = bytes.firstIndex(of: mark)
            while let start = position {
                let rest = bytes[(start + mark.count)...].prefix(256).prefix { $0 != 10 && $0 != 0 }
                let words = String(decoding: rest, as: UTF8.self).split(separator: " ")
                if let word = words.first(where: { looksLikeUUID($0) }) { found.append(String(word)) }
                position = bytes.firstIndex(of: mark, from: start + mark.count)
            }
        }
        return unique(found)
    }

    /// `1234-ABCD` or the long form.
    static func looksLikeUUID(_ word: Substring) -> Bool {
        (word.count == 36 || word.count == 9) && word.contains("-") && word.allSatisfy { $0.isHexDigit || $0 == "-" }
    }

    /// The texts without duplicates.
    static func unique(_ texts: [String]) -> [String] {
        texts.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}
