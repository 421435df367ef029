// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

extension IdentityExecutor {
    /// Gives a volume, or a group, a new identifier.
    mutating func change(_ step: IdentityStep) {
        do {
            switch step.verb {
            case .changeVolume(let change): try self.change(change)
            case .renewGroup(let name, let partition): try renew(name, on: partition)
            default: break
            }
        } catch { outcome.pending.append("could not \(step): \(Self.sentence(error))") }
    }

    private static func sentence(_ error: any Error) -> String {
        (error as? SerialPatches.Misfit)?.reason ?? "\(error)"
    }

    private func volume(_ number: Int) throws(SystemCallError) -> BootVolume {
        guard let volume = plan.volumes.first(where: { $0.number == number }) else {
            throw SystemCallError("find", "partition \(number)", .noSuchFileOrDirectory)
        }
        return volume
    }

    private func change(_ change: VolumeChange) throws {
        let node = try VolumeNode.make(try volume(change.number), of: disk, readOnly: false, keys: keys)
        if change.method == .btrfs, try BtrfsDevices.count(on: try BlockDevice(opening: node.path)) != 1 {
            throw ToolFailure("its filesystem has several devices, and all of them would be written")
        }
        // Its node must outlive the programs.
        defer { withExtendedLifetime(node) {} }
        for command in change.commands(node: node.path.string) {
            let output = try ChildProcess.run(
                command.arguments, input: Array(command.input.utf8), timeoutSeconds: 6 * 3600)
            for line in (output.text + output.errorText).split(separator: "\n").prefix(20) { log("  \(line)") }
            guard case .exited(let status) = output.ending, command.passes.contains(status) else {
                throw ToolFailure(
                    "\(command.arguments.first ?? "") ended with \(output.ending): \(output.lastWords)")
            }
        }
        guard change.method == .bytes else { return }
        let device = try BlockDevice(opening: node.path, .exclusiveWrite)
        for patch in try SerialPatches.patches(for: change.kind, on: device, to: change.change.new) {
            let present = try device.readBytes(at: patch.offset, count: patch.from.count)
            guard present == patch.from else { throw SerialPatches.Misfit(reason: "it has changed") }
            try device.writeBytes(patch.to, at: patch.offset)
            try device.flush()
        }
        try device.dropCache()
    }

    /// Reads the identifiers back: only those that are there are followed.
    mutating func verifyVolumes() throws(SystemCallError) {
        let planned = plan.volumeChanges
        guard !planned.isEmpty else { return }
        let survey: DiskSurvey
        do {
            // As in the survey of boot repair: volumes inside of LUKS get the same numbers.
            let unlocker = keys.isEmpty ? nil : LUKSUnlocker(keyFiles: keys)
            survey = try DiskSurveyor.survey(
                disk, identity: plan.disk, geometry: disk.geometry, allUsed: unlocker == nil, trustMaps: true,
                unlocker: unlocker, descriptor: disk.fileDescriptor.rawValue)
        } catch { throw SystemCallError("read", "\(disk.path) back (\(error))", .ioError) }
        let now = BootVolume.all(of: survey)
        for change in planned {
            let uuid = now.first { $0.number == change.number }?.uuid
            if uuid?.lowercased() == change.change.new.lowercased() {
                changes.append(change.change)
                outcome.changed.append("\(change.place) has a new identifier: \(change.change)")
            } else if !outcome.pending.contains(where: { $0.contains(change.change.new) }) {
                outcome.pending.append(
                    "\(change.place) has \(uuid ?? "no identifier") in place of the new \(change.change.new)")
            }
        }
    }

    /// pvchange(8), vgchange(8): `--uuid` takes random ones.
    private mutating func renew(_ group: String, on number: Int) throws {
        let node = try VolumeNode.make(try volume(number), of: disk, readOnly: false)
        defer { withExtendedLifetime(node) {} }
        let old = try physicalVolumeID(node)
        for (command, arguments) in [
            ("pvchange", ["--uuid", "--yes", node.path.string]), ("vgchange", ["--uuid", "--yes", group]),
        ] {
            let output = try ChildProcess.run(
                ConfinedLVM.command(command, on: node.path.string, arguments), timeoutSeconds: 600)
            guard output.succeeded else {
                throw ToolFailure("\(command) ended with \(output.ending): \(output.lastWords)")
            }
        }
        let new = try physicalVolumeID(node)
        guard new != old else { throw ToolFailure("pvchange left the id \(old)") }
        physicalVolumes.append((old, new))
        outcome.changed.append("the group \(group) and its physical volume on partition \(number) have new ids")
    }

    private func physicalVolumeID(_ node: VolumeNode) throws -> String {
        let output = try ChildProcess.run(
            ConfinedLVM.command(
                "pvs", on: node.path.string, ["--noheadings", "--options", "pv_uuid", node.path.string]),
            timeoutSeconds: 60)
        let id = output.text.filter { !$0.isWhitespace }
        guard output.succeeded, id.utf8.count == 38 else { throw ToolFailure("pvs: \(output.lastWords)") }
        return id
    }
}

/// The failure of a program of this machine, as a sentence part.
struct ToolFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
