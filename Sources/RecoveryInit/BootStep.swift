// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A step that PID 1 takes before anything else can run, as a value: printable, comparable, and executed in one place
/// (`perform`).
package enum BootStep: Equatable, Sendable, CustomStringConvertible {
    /// Makes a folder and its missing parents.
    case makeFolder(String)
    /// Mounts a kernel filesystem, unless something is already mounted there.
    case mount(KernelFilesystem)
    /// Makes a symbolic link.
    case link(String, target: String)
    /// Writes a value into a file of procfs or sysfs.
    case set(String, value: String)

    /// A filesystem that has no device.
    package struct KernelFilesystem: Equatable, Sendable {
        /// The type, and the source's name.
        package var type: String
        /// The mount point.
        package var place: String
        /// Whether programs, devices and set-user-id files on it are disabled.
        package var isUntrusted: Bool
        /// Options for the filesystem itself.
        package var data: String
        /// A path that must exist for the mount to make sense.
        package var needs: String?

        /// Describes a mount.
        package init(_ type: String, on place: String, untrusted: Bool, data: String = "", needs: String? = nil) {
            self.type = type
            self.place = place
            isUntrusted = untrusted
            self.data = data
            self.needs = needs
        }
    }

    /// The inputs that differ between boots.
    package struct Facts: Equatable, Sendable {
        /// The kernel's command line.
        package var commandLine: String
        /// The host name.
        package var hostName: String

        /// Describes a boot.
        package init(commandLine: String, hostName: String) {
            self.commandLine = commandLine
            self.hostName = hostName
        }
    }

    /// All steps in their order.
    package static func all(for facts: Facts) -> [BootStep] {
        var steps: [BootStep] = [
            .makeFolder("/proc"), .mount(.init("proc", on: "/proc", untrusted: true)),
            .makeFolder("/sys"), .mount(.init("sysfs", on: "/sys", untrusted: true)),
            // An initramfs gets no /dev from the kernel (CONFIG_DEVTMPFS_MOUNT is for real roots only).
            .makeFolder("/dev"), .mount(.init("devtmpfs", on: "/dev", untrusted: false, data: "mode=0755")),
            .makeFolder("/dev/pts"),
            .mount(.init("devpts", on: "/dev/pts", untrusted: false, data: "gid=5,mode=0620,ptmxmode=0666")),
            .makeFolder("/dev/shm"), .mount(.init("tmpfs", on: "/dev/shm", untrusted: false, data: "mode=1777")),
            .link("/dev/fd", target: "/proc/self/fd"), .link("/dev/stdin", target: "/proc/self/fd/0"),
            .link("/dev/stdout", target: "/proc/self/fd/1"), .link("/dev/stderr", target: "/proc/self/fd/2"),
            .makeFolder("/tmp"), .mount(.init("tmpfs", on: "/tmp", untrusted: false, data: "mode=1777")),
            .makeFolder("/run"), .mount(.init("tmpfs", on: "/run", untrusted: false, data: "mode=0755")),
            .makeFolder("/run/lock"), .makeFolder(RecoveryPaths.volumes.string), .makeFolder("/root"),
            .makeFolder("/var/log"),
            // The folder exists only on UEFI machines. The kernel loads the module itself (/sbin/modprobe).
            .mount(
                .init(
                    "efivarfs", on: "/sys/firmware/efi/efivars", untrusted: true, needs: "/sys/firmware/efi/efivars")),
        ]
        if !wantsKernelMessages(facts.commandLine) {
            // Only warnings and worse: otherwise messages about new disks would hide the progress. dmesg has all of
            // them.
            steps.append(.set("/proc/sys/kernel/printk", value: "4"))
        }
        if !facts.hostName.isEmpty { steps.append(.set("/proc/sys/kernel/hostname", value: facts.hostName)) }
        return steps
    }

    /// Whether the command line configures the kernel's messages.
    static func wantsKernelMessages(_ commandLine: String) -> Bool {
        KernelCommandLine.parse(commandLine).contains {
            ["loglevel", "ignore_loglevel", "debug", "quiet"].contains($0.key)
        }
    }

    /// A line for the user.
    package var description: String {
        switch self {
        case .makeFolder(let path): "create \(path)"
        case .mount(let mount): "mount \(mount.type) on \(mount.place)"
        case .link(let path, let target): "link \(path) to \(target)"
        case .set(let path, let value): "set \(path) to \(value)"
        }
    }

    /// Executes the step.
    func perform() throws(SystemCallError) {
        switch self {
        case .makeFolder(let path): try Files.makeFolders(FilePath(path))
        case .mount(let mount):
            if let needs = mount.needs, !Files.exists(FilePath(needs)) { return }
            // /proc is mounted before main (CEarlyBoot).
            if MountEntry.current().contains(where: { $0.mountPoint == mount.place }) { return }
            try Mount.permanent(
                mount.type, on: FilePath(mount.place), type: mount.type, options: mount.isUntrusted ? [.untrusted] : [],
                data: mount.data)
        case .link(let path, let target): try Files.makeLink(FilePath(path), to: target)
        case .set(let path, let value): try Files.put(value, into: FilePath(path))
        }
    }
}
