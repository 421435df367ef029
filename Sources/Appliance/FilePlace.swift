// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// The place of a file in an image, as a user writes it.
package struct FilePlace: Equatable, Sendable {
    package enum Volume: Equatable, Sendable {
        /// `3:/path`; `0:/path` on a disk without a table.
        case partition(UInt32)
        /// `group/volume:/path`.
        case logicalVolume(String)
        /// `/path`, as the installed system mounts it.
        case installed
    }

    package let volume: Volume
    /// With a slash in front.
    package let path: [UInt8]

    package static let forms =
        "3:/path (partition 3), group/volume:/path (LVM), or /path (as the installed system's fstab mounts it)"

    package init(_ volume: Volume, path: [UInt8]) {
        self.volume = volume
        self.path = path
    }

    /// - Returns: `nil` if the text has none of the forms.
    package init?(_ text: String) {
        if text.hasPrefix("/") {
            self.init(.installed, path: Array(text.utf8))
            return
        }
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let name = String(text[..<colon])
        let path = String(text[text.index(after: colon)...])
        guard path.isEmpty || path.hasPrefix("/") else { return nil }
        let bytes = path.isEmpty ? [UInt8(ascii: "/")] : Array(path.utf8)
        if !name.isEmpty, name.allSatisfy({ $0.isASCII && $0.isNumber }) {
            guard let number = UInt32(name) else { return nil }
            self.init(.partition(number), path: bytes)
            return
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ ConfinedLVM.isName($0) }) else { return nil }
        self.init(.logicalVolume(name), path: bytes)
    }

    /// The components of the path, without `.`. `..` is resolved inside the volume by the agent.
    var components: [[UInt8]] {
        path.split(separator: UInt8(ascii: "/")).map(Array.init).filter { $0 != [UInt8(ascii: ".")] }
    }

    /// The last component; `nil` for the root of a volume.
    package var lastName: [UInt8]? {
        components.last.flatMap { AgentEntry.isName($0) ? $0 : nil }
    }
}
