// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension AnchoredFolder {
    /// Replaces the contents of a file. A link stays, and leads to the new contents: a rename would replace it by a file.
    /// The SELinux label stays, without which confined programs of the started system cannot read the file.
    package func replace(_ inner: String, with bytes: [UInt8]) throws(SystemCallError) {
        let target = try linkTarget(of: inner)
        let label = securityLabel(of: target)
        try write(bytes, to: target)
        if let label { try setSecurityLabel(label, of: target) }
    }

    /// The path of the file that a path leads to.
    package func linkTarget(of inner: String) throws(SystemCallError) -> String {
        guard kind(of: inner) == .link else { return inner }
        return String(try realPath(of: inner).string.dropFirst(path.string.utf8.count))
    }
}
