// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import ObjectStore
import SystemPackage

extension LocalStore {
    /// A store whose waits nothing ends.
    package convenience init(_ root: FilePath) { self.init(root, cancellation: Cancellation()) }
}
