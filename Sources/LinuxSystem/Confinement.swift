// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// What a program of a foreign system can reach: a root and a /dev of its own, and nothing else of this machine.
///
/// It runs in its own mount, process, network, IPC and host name namespaces, with /proc and /sys read-only and an empty
/// /run. A system-call filter refuses mounts, namespaces, kernel modules, tracing, keys and commands to devices; of
/// device-mapper it leaves queries. When it ends, or this process does, all that it started is killed: not for
/// programs that must end their work (LVM, cryptsetup, resize tools).
package struct Confinement: Sendable {
    /// Rights of root that a program keeps (capabilities(7)). What leads out of the confinement is not among them.
    package struct Capabilities: OptionSet, Sendable {
        /// A bit for each capability's number.
        package let rawValue: UInt64
        /// From bits.
        package init(rawValue: UInt64) { self.rawValue = rawValue }
        /// CAP_CHOWN.
        package static let changeOwner = Capabilities(rawValue: 1 << 0)
        /// CAP_DAC_OVERRIDE.
        package static let passPermissions = Capabilities(rawValue: 1 << 1)
        /// CAP_FOWNER.
        package static let actAsOwner = Capabilities(rawValue: 1 << 3)
        /// CAP_FSETID.
        package static let keepSetID = Capabilities(rawValue: 1 << 4)
        /// CAP_KILL, in its own process namespace.
        package static let signal = Capabilities(rawValue: 1 << 5)
        /// CAP_SETGID and CAP_SETUID.
        package static let changeUser = Capabilities(rawValue: 1 << 6 | 1 << 7)
        /// CAP_LINUX_IMMUTABLE.
        package static let immutableFiles = Capabilities(rawValue: 1 << 9)
        /// CAP_SYS_CHROOT.
        package static let changeRoot = Capabilities(rawValue: 1 << 18)
        /// CAP_SETFCAP.
        package static let setFileCapabilities = Capabilities(rawValue: 1 << 31)
        /// CAP_SYS_ADMIN, of which the filter leaves little: the kernel asks for it before each query of device-mapper.
        package static let queryDeviceMapper = Capabilities(rawValue: 1 << 21)

        /// Work on files as root does it: what installers of loaders and initramfs generators need.
        package static let files: Capabilities = [
            .changeOwner, .passPermissions, .actAsOwner, .keepSetID, .signal, .changeUser, .immutableFiles, .changeRoot,
            .setFileCapabilities,
        ]
    }

    /// The mount that becomes the root. It has folders /dev, /proc, /sys and /run.
    package var root: FilePath
    /// The mount that becomes /dev: the program reaches the devices whose nodes are in it, as long as the root is
    /// mounted without devices.
    package var devices: FilePath
    /// The rights that it keeps.
    package var capabilities: Capabilities

    /// Describes a confinement.
    package init(root: FilePath, devices: FilePath, capabilities: Capabilities) {
        self.root = root
        self.devices = devices
        self.capabilities = capabilities
    }
}
