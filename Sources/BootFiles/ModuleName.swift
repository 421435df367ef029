// SPDX-License-Identifier: GPL-3.0-or-later

/// The name of a kernel module. "-" and "_" are one to the kernel: "_" is kept.
package struct ModuleName: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The name: `dm_mod`.
    package let text: String

    /// - Parameter name: a name without path and suffix.
    package init(_ name: some StringProtocol) { text = String(name.map { $0 == "-" ? "_" : $0 }) }

    /// The module in a file, by the file's name or path; `nil` if it is none.
    package init?(file: some StringProtocol) {
        let name = file.split(separator: "/").last.map { String($0) } ?? ""
        for suffix in [".ko", ".ko.xz", ".ko.zst", ".ko.gz"] where name.hasSuffix(suffix) && name != suffix {
            self.init(name.dropLast(suffix.count))
            return
        }
        return nil
    }

    package var description: String { text }

    package static func < (one: ModuleName, other: ModuleName) -> Bool { one.text < other.text }
}
