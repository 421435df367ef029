// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem
import SystemPackage

/// A temporary folder for a test, removed with the last reference.
package final class ScratchFolder: Sendable {
    package let path: FilePath

    package init() throws { path = try Files.makeTemporaryFolder("reforge-test") }

    deinit { _ = try? ChildProcess.run(["rm", "-rf", path.string]) }
}
