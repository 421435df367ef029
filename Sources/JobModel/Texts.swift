// SPDX-License-Identifier: GPL-3.0-or-later

extension String {
    /// Without control characters, for consoles: a disk may report anything as its name.
    public var printable: String { printable(keeping: []) }

    /// Several lines without control characters but line ends and tabs: an image may give its partitions any name, and
    /// a terminal obeys what is in it.
    public var printableLines: String { printable(keeping: ["\n", "\t"]) }

    private func printable(keeping kept: Set<Unicode.Scalar>) -> String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    if kept.contains(scalar) { return scalar }
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse: return "?"
                    default: return scalar
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
