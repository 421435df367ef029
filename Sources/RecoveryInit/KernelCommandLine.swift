// SPDX-License-Identifier: GPL-3.0-or-later

/// The kernel's command line, parsed as by the kernel.
package enum KernelCommandLine {
    /// One parameter.
    package struct Parameter: Equatable, Sendable {
        /// The text before the first `=`.
        package var key: String
        /// The text after it, without quotes; `nil` if there is no `=`.
        package var value: String?

        /// Creates a parameter.
        package init(_ key: String, _ value: String? = nil) {
            self.key = key
            self.value = value
        }
    }

    /// Parses a command line, like `next_arg` of Linux's lib/cmdline.c. White space ends a parameter unless it is in
    /// double quotes; quotes around a whole parameter or value are removed; there is no escape character.
    package static func parse(_ text: String) -> [Parameter] {
        var parameters: [Parameter] = []
        var rest = Array(text.utf8)[...]
        while true {
            rest = rest.drop(while: isSpace)
            guard !rest.isEmpty else { return parameters }
            var isQuoted = false
            var inQuotes = false
            if rest.first == quote {
                rest = rest.dropFirst()
                isQuoted = true
                inQuotes = true
            }
            var word: [UInt8] = []
            var equals: Int?
            while let byte = rest.first, !isSpace(byte) || inQuotes {
                rest = rest.dropFirst()
                // The kernel does not treat an `=` at the start as a separator.
                if byte == UInt8(ascii: "="), equals == nil, !word.isEmpty { equals = word.count }
                if byte == quote { inQuotes.toggle() }
                word.append(byte)
            }
            var value: ArraySlice<UInt8>?
            var key = word[...]
            if let equals {
                key = word[..<equals]
                var found = word[(equals + 1)...]
                if found.first == quote {
                    found = found.dropFirst()
                    if found.last == quote { found = found.dropLast() }
                } else if isQuoted, found.last == quote {
                    found = found.dropLast()
                }
                value = found
            } else if isQuoted, key.last == quote {
                key = key.dropLast()
            }
            if !key.isEmpty {
                parameters.append(
                    Parameter(
                        String(decoding: key, as: UTF8.self), value.map { String(decoding: $0, as: UTF8.self) }))
            }
        }
    }

    private static let quote = UInt8(ascii: "\"")
    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) || byte == 0 }
}
