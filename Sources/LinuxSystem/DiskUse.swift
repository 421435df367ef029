// SPDX-License-Identifier: GPL-3.0-or-later

/// One reason why a disk is in use.
package enum DiskUse: Equatable, Sendable, CustomStringConvertible {
    case mounted(node: String, at: String, readOnly: Bool)
    /// A swap area on it is active.
    case swap(node: String)
    /// A device-mapper or md device holds it.
    case held(node: String, by: String, kernelName: String)

    /// Where a filesystem is mounted read-write; `nil` for any other use.
    package var mountPointReadWrite: String? {
        if case .mounted(_, let place, false) = self { place } else { nil }
    }

    /// A sentence part for messages.
    package var description: String {
        switch self {
        case .mounted(let node, let place, let readOnly):
            "/dev/\(node) is mounted on \(place)\(readOnly ? " (read-only)" : "")"
        case .swap(let node): "/dev/\(node) is in use as swap"
        case .held(let node, let holder, _): "/dev/\(node) is held by \(holder)"
        }
    }
}
