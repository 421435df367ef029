// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage

extension SystemFacts {
    /// An environment variable; `nil` if it is not set.
    ///
    /// The corresponding C function is `getenv`.
    package static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// The user who runs this, for messages: `user@host`. (No getpwuid: in a static binary it loads libraries.)
    package static var userAtHost: String {
        let user = isRoot ? "root" : environment("USER") ?? environment("LOGNAME") ?? "user \(getuid())"
        return "\(user)@\(Files.text("/proc/sys/kernel/hostname") ?? "unknown")"
    }
}
