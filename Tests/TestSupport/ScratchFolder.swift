// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem
import SystemPackage

/// A folder of a test's own; gone with the last reference.
package final class ScratchFolder: Sendable {
    /// Its path.
    package let path: FilePath

    /// Makes one.
    package init() throws { path = try Files.makeTemporaryFolder("reforge-test") }

    deinit { _ = try? ChildProcess.run(["rm", "-rf", path.string]) }
}
