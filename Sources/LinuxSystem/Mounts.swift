// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import SystemPackage

/// One line of /proc/self/mountinfo.
package struct MountEntry: Equatable, Sendable {
    /// The device number, `major:minor`.
    package var device: String
    /// The folder of the filesystem that is mounted: other than `/` for a subvolume of Btrfs or a part of a tree.
    package var root: String
    package var mountPoint: String
    /// The filesystem's type.
    package var type: String
    /// The source as the mounter named it.
    package var source: String
    /// Whether the filesystem itself (not only this view of it) is read-only.
    package var isReadOnly: Bool
    /// Whether mounts and unmounts below propagate to or from other mount namespaces (mount_namespaces(7)).
    package var isPropagated = false

    /// Parses the text of mountinfo (proc(5)); malformed lines are skipped.
    package static func parse(_ text: String) -> [MountEntry] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
            guard let separator = fields.firstIndex(of: "-"), fields.count > separator + 3, separator >= 6 else {
                return nil
            }
            return MountEntry(
                device: fields[2], root: unescape(fields[3]), mountPoint: unescape(fields[4]),
                type: fields[separator + 1],
                source: unescape(fields[separator + 2]),
                isReadOnly: fields[separator + 3].split(separator: ",").contains("ro"),
                isPropagated: fields[6..<separator].contains { $0.hasPrefix("shared:") || $0.hasPrefix("master:") })
        }
    }

    /// The current mounts of this process.
    package static func current() -> [MountEntry] { parse(Files.text("/proc/self/mountinfo") ?? "") }

    /// Whether a copy of this mount table keeps a disk in use after the user unmounts it. The
    /// root disk is in use anyway.
    static func holdsDisks(_ mounts: [MountEntry]) -> Bool {
        let root = mounts.last { $0.mountPoint == "/" }?.device
        return mounts.contains { $0.source.hasPrefix("/dev/") && !$0.isPropagated && $0.device != root }
    }

    /// Undoes the octal escapes of space, tab, newline and backslash (`\\040`; proc(5), fstab(5)).
    package static func unescape(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3,
                let value = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A mounted filesystem, unmounted with this value.
package struct Mount: ~Copyable, Sendable {
    /// Options of a mount.
    package struct Options: OptionSet, Sendable {
        package let rawValue: Int
        package init(rawValue: Int) { self.rawValue = rawValue }
        /// Refuses writes.
        package static let readOnly = Options(rawValue: 1)
        /// The source is a folder that appears at a second place.
        package static let bind = Options(rawValue: 2)
        /// Ignores devices, programs and set-user-id bits.
        package static let untrusted = Options(rawValue: 4)
        /// Ignores devices and set-user-id bits.
        package static let noDevices = Options(rawValue: 8)
    }

    package let mountPoint: FilePath
    private var isMounted = true

    /// Mounts `source` on `mountPoint`.
    ///
    /// The corresponding C function is `mount`.
    package init(
        _ source: String, on mountPoint: FilePath, type: String? = nil, options: Options = [], data: String = ""
    ) throws(SystemCallError) {
        try Mount.permanent(source, on: mountPoint, type: type, options: options, data: data)
        self.mountPoint = mountPoint
    }

    /// Mounts without an owner, for mounts that stay until the machine stops.
    package static func permanent(
        _ source: String, on mountPoint: FilePath, type: String? = nil, options: Options = [], data: String = ""
    ) throws(SystemCallError) {
        var flags: UInt64 = 0
        if options.contains(.readOnly) { flags |= rf_ms_rdonly() }
        if options.contains(.bind) { flags |= rf_ms_bind() | rf_ms_rec() }
        if options.contains(.noDevices) { flags |= rf_ms_nosuid() | rf_ms_nodev() }
        if options.contains(.untrusted) { flags |= rf_ms_nosuid() | rf_ms_nodev() | rf_ms_noexec() }
        try check(
            rf_mount(source, mountPoint.string, type, flags, data), "mount \(source) on", mountPoint.string)
    }

    /// Unmounts and reports failures.
    package consuming func unmount() throws(SystemCallError) {
        try check(Files.changing(mountPoint) { rf_umount(mountPoint.string, 0) }, "unmount", mountPoint.string)
        isMounted = false
    }

    /// Unmounts in another process with a time limit: on a disk that does not answer, unmounting would never end.
    package consuming func unmount(withinSeconds seconds: Double) throws(SystemCallError) {
        let child = try ChildProcess(["umount", mountPoint.string])
        let deadline = SystemFacts.monotonicSeconds() + seconds
        while SystemFacts.monotonicSeconds() < deadline {
            if let ending = child.poll() {
                isMounted = ending != .exited(0)
                if isMounted { throw SystemCallError("unmount", mountPoint.string, .resourceBusy) }
                return
            }
            SystemFacts.sleep(seconds: 0.02)
        }
        isMounted = false
        throw SystemCallError("unmount", mountPoint.string, .timedOut)
    }

    deinit {
        guard isMounted else { return }
        // Lazily where it is in use: the mount must never outlive its use by this program.
        if rf_umount(mountPoint.string, 0) != 0 { _ = rf_umount(mountPoint.string, 1) }
    }
}

/// Restart and power-off, for PID 1.
package enum Machine {
    /// Restarts the machine. Returns only on failure.
    package static func restart() -> SystemCallError { ended(rf_reboot_restart(), "restart") }
    /// Powers off the machine. Returns only on failure.
    package static func powerOff() -> SystemCallError { ended(rf_reboot_poweroff(), "switch off") }
    /// Delivers Ctrl-Alt-Del as SIGINT to PID 1.
    package static func catchControlAltDelete() { _ = rf_reboot_disable_ctrl_alt_del() }

    private static func ended(_ result: Int32, _ action: String) -> SystemCallError {
        SystemCallError(action, "the machine", Errno(rawValue: -result))
    }
}
