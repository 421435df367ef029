// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A logical volume that LVM keeps active during the lifetime of this object. LVM sees only the device of the volume's
/// group: another disk may have a group of the same name.
package final class ActiveLogicalVolume {
    /// The node that LVM made, below /dev/mapper.
    package let path: FilePath
    private let name: String
    private let device: FilePath
    private var isActive = false

    /// Activates a volume.
    /// - Parameters:
    ///   - name: `group/name`.
    ///   - path: the node that LVM is going to create.
    ///   - device: the node of the physical volume.
    ///   - readOnly: whether the kernel must refuse writes to it.
    /// - Throws: if LVM is missing or does not accept the group: a part of it is on another
    ///   disk, a name is in use, …
    package init(_ name: String, at path: FilePath, on device: FilePath, readOnly: Bool) throws(SystemCallError) {
        self.name = name
        self.path = path
        self.device = device
        if let obstacle = DeviceMapper.obstacle() {
            throw SystemCallError("activate", "the volume \(name): \(obstacle)", .operationNotSupportedByDevice)
        }
        // A failure before this point must not deactivate a volume that was active already.
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

    /// Deactivates the volume. Retries, because another program (udev, a probe) may have it open at this moment.
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
