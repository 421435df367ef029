// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A logical volume that LVM keeps active for as long as this object lives. LVM sees the one device that its group is on, and
/// nothing else of the machine: another disk may have a group of the same name.
package final class ActiveLogicalVolume {
    /// The node that LVM made, below /dev/mapper.
    package let path: FilePath
    private let name: String
    private let device: FilePath
    private var isActive = false

    /// Activates a volume.
    /// - Parameters:
    ///   - name: `group/name`.
    ///   - path: its node, as LVM is going to name it.
    ///   - device: the node of the physical volume.
    ///   - readOnly: whether the kernel is to refuse writes to it.
    /// - Throws: where LVM is missing, or does not take the group: a part of it on another disk, a name that is in use, …
    package init(_ name: String, at path: FilePath, on device: FilePath, readOnly: Bool) throws(SystemCallError) {
        self.name = name
        self.path = path
        self.device = device
        if let obstacle = DeviceMapper.obstacle() {
            throw SystemCallError("activate", "the volume \(name): \(obstacle)", .operationNotSupportedByDevice)
        }
        // A failure up to here must not deactivate what somebody else has activated.
        guard !Files.exists(path), !MappedDevice.all().contains(where: { $0.name == path.lastComponent?.string }) else {
            throw SystemCallError("activate", "the volume \(name): \(path)", .fileExists)
        }
        isActive = true
        let group = String(name.prefix { $0 != "/" })
        try Self.change(
            name, ["--activate", "y", "--ignoreactivationskip"], on: device, readOnlyGroup: readOnly ? group : nil)
        guard Files.exists(path) else {
            try? close()
            throw SystemCallError("find", path.string, .noSuchFileOrDirectory)
        }
    }

    deinit { try? close() }

    /// Deactivates it. Somebody (udev, a probe) may look at it this very moment: some tries.
    package func close() throws(SystemCallError) {
        var tries = 10
        while isActive {
            do {
                try Self.change(name, ["--activate", "n"], on: device)
                isActive = false
            } catch {
                tries -= 1
                guard tries > 0 else { throw error }
                SystemFacts.sleep(seconds: 0.3)
            }
        }
    }

    private static func change(
        _ name: String, _ arguments: [String], on device: FilePath, readOnlyGroup: String? = nil
    ) throws(SystemCallError) {
        let output = try ChildProcess.run(
            ConfinedLVM.command("lvchange", on: device.string, arguments + [name], readOnlyGroup: readOnlyGroup),
            timeoutSeconds: 60)
        guard output.succeeded else {
            throw SystemCallError(
                "run", "lvchange \(arguments.joined(separator: " ")) \(name) (\(output.ending): \(output.lastWords))",
                .invalidArgument)
        }
    }
}
