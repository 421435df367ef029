// SPDX-License-Identifier: GPL-3.0-or-later
public import SystemPackage

/// What a program of a foreign system can reach: a root and a /dev of its own, and nothing else of this machine.
///
/// It runs in its own mount, process, network, IPC and host name namespaces, with /proc and /sys read-only and an empty
/// /run. A system-call filter refuses mounts, namespaces, kernel modules, tracing, keys and commands to devices; of
/// device-mapper it leaves queries. When it ends, or this process does, all that it started is killed: not for
/// programs that must end their work (LVM, cryptsetup, resize tools).
public struct Confinement: Sendable {
    /// Rights of root that a program keeps (capabilities(7)). What leads out of the confinement is not among them.
    public struct Capabilities: OptionSet, Sendable {
        /// A bit for each capability's number.
        public let rawValue: UInt64
        /// From bits.
        public init(rawValue: UInt64) { self.rawValue = rawValue }
        /// CAP_CHOWN.
        public static let changeOwner = Capabilities(rawValue: 1 << 0)
        /// CAP_DAC_OVERRIDE.
        public static let passPermissions = Capabilities(rawValue: 1 << 1)
        /// CAP_FOWNER.
        public static let actAsOwner = Capabilities(rawValue: 1 << 3)
        /// CAP_FSETID.
        public static let keepSetID = Capabilities(rawValue: 1 << 4)
        /// CAP_KILL, in its own process namespace.
        public static let signal = Capabilities(rawValue: 1 << 5)
        /// CAP_SETGID and CAP_SETUID.
        public static let changeUser = Capabilities(rawValue: 1 << 6 | 1 << 7)
        /// CAP_LINUX_IMMUTABLE.
        public static let immutableFiles = Capabilities(rawValue: 1 << 9)
        /// CAP_SYS_CHROOT.
        public static let changeRoot = Capabilities(rawValue: 1 << 18)
        /// CAP_SETFCAP.
        public static let setFileCapabilities = Capabilities(rawValue: 1 << 31)
        /// CAP_SYS_ADMIN, of which the filter leaves little: the kernel asks for it before each query of device-mapper.
        public static let queryDeviceMapper = Capabilities(rawValue: 1 << 21)

        /// Work on files as root does it: what installers of loaders and initramfs generators need.
        public static let files: Capabilities = [
            .changeOwner, .passPermissions, .actAsOwner, .keepSetID, .signal, .changeUser, .immutableFiles, .changeRoot,
            .setFileCapabilities,
        ]
    }

    /// The mount that becomes the root. It has folders /dev, /proc, /sys and /run.
    public var root: FilePath
    /// The mount that becomes /dev: the program reaches the devices whose nodes are in it, as long as the root is
    /// mounted without devices.
    public var devices: FilePath
    /// The rights that it keeps.
    public var capabilities: Capabilities

    /// Describes a confinement.
    public init(root: FilePath, devices: FilePath, capabilities: Capabilities) {
        self.root = root
        self.devices = devices
        self.capabilities = capabilities
    }
}
