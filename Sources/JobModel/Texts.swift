// SPDX-License-Identifier: GPL-3.0-or-later

extension String {
    /// Without control characters, for consoles: a disk may report anything as its name.
    public var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse: "?"
                    default: scalar
                    }
                }))
    }

    /// The text after `prefix`; `nil` if the string does not start with it.
    public func valueAfter(_ prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}

extension String {
    /// Without white space at both ends.
    public var strippedSpaces: String {
        var view = self[...]
        while view.first?.isWhitespace == true { view.removeFirst() }
        while view.last?.isWhitespace == true { view.removeLast() }
        return String(view)
    }

    /// Whether it holds nothing but white space.
    public var isBlank: Bool { allSatisfy(\.isWhitespace) }
}
