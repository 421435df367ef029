// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// The resources that a program of a foreign system can reach: its own root and /dev, and nothing else of this machine.
///
/// It runs in its own mount, process, network, IPC and host name namespaces, with /proc and /sys read-only and an
/// empty /run. A system-call filter refuses mounts, namespaces, kernel modules, tracing, keys and commands to devices;
/// of device-mapper it allows only queries. When the program or this process ends, all its descendants are killed. So
/// confinement is not for programs that must finish their work (LVM, cryptsetup, resize tools).
package struct Confinement: Sendable {
    /// Capabilities that a program keeps (capabilities(7)). None of them leads out of the confinement.
    package struct Capabilities: OptionSet, Sendable {
        /// A bit for each capability's number.
        package let rawValue: UInt64
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
        /// CAP_SYS_ADMIN, restricted by the filter: the kernel requires it for each query of device-mapper.
        package static let queryDeviceMapper = Capabilities(rawValue: 1 << 21)

        /// File operations of root: loader installers and initramfs generators need them.
        package static let files: Capabilities = [
            .changeOwner, .passPermissions, .actAsOwner, .keepSetID, .signal, .changeUser, .immutableFiles, .changeRoot,
            .setFileCapabilities,
        ]
    }

    /// The mount that becomes the root. It has folders /dev, /proc, /sys and /run.
    package var root: FilePath
    /// The mount that becomes /dev: the program reaches the devices whose nodes are in it, provided the root
    /// is mounted without devices.
    package var devices: FilePath
    /// The capabilities that it keeps.
    package var capabilities: Capabilities

    package init(root: FilePath, devices: FilePath, capabilities: Capabilities) {
        self.root = root
        self.devices = devices
        self.capabilities = capabilities
    }
}
