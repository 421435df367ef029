// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import FilesystemResize
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

extension PlanText {
    /// The plan of a restore, for a person.
    /// - Parameters:
    ///   - disks: source and target of a clone, as lines; `nil` for an image.
    ///   - changes: what is changed in the restored system, as lines.
    package init(
        restore plan: RestorePlan, _ manifest: Manifest, isSnapshot: Bool,
        bootRepair: RestoreOperation.BootRepairChoice, findings: [Finding] = [], lost: [LostRange] = [],
        disks: [String]? = nil, changes: [String] = []
    ) {
        let target = plan.target
        var lines =
            disks ?? [
                "\(isSnapshot ? "Snapshot" : "Image") of \(manifest.disk.path) (\(manifest.disk.model ?? "no model"), \(ByteText.rounded(manifest.geometry.byteCount))), "
                    + "made \(manifest.started)",
                "Target \(target.path): \(target.model ?? "no model"), serial \(target.serial ?? "none"), "
                    + "\(ByteText.rounded(plan.geometry.byteCount)), attached by \(target.transport)",
            ]
        let rows = plan.items.flatMap { item in
            [
                [
                    item.number.map(String.init) ?? "-", item.name, item.type, item.filesystem,
                    Self.place(item.from.lowerBound), Self.place(item.to.lowerBound),
                    ByteText.rounded(item.from.byteCount),
                    ByteText.rounded(item.to.byteCount), ByteText.rounded(item.usedByteCount), item.action,
                ]
            ] + (item.volumes ?? []).map(Self.volumeRow)
        }
        lines += TextTable.lines(
            ["#", "NAME", "TYPE", "HOLDS", "FROM", "TO", "SIZE THEN", "SIZE NOW", "WRITTEN", "WHAT HAPPENS"], rows)
        if let room = plan.scratchRoom {
            lines.append(
                "making filesystems fit takes a scratch of up to \(ByteText.rounded(room)) for a while (--scratch)")
        }
        lines += plan.conversion.map { Self.lines($0, manifest) } ?? []
        lines += plan.warnings.map { "note: \($0.sentence)" }
        lines += manifest.lostTexts(lost.map(\.captured)).map { "lost: \($0)" }
        for growth in plan.growths where lost.contains(where: { $0.partition == growth.number }) {
            lines.append(
                "note: \(growth.number.map { "partition \($0)" } ?? "the filesystem") is not grown, as parts of it are lost"
            )
        }
        lines += findings.map { "boot: \($0.lines.joined(separator: "; "))" }
        switch bootRepair {
        case .done:
            lines.append(
                "then: boot repair for this machine; its own plan is shown once the system is there (--no-boot-repair leaves it out)"
            )
        case .leftOut:
            lines.append(
                "then: no boot repair, which would run programs of the restored system here (--boot-repair does)"
                    + (plan.conversion.map {
                        ". Until it was done, the disk does not start by \(Firmware($0.goal)): start the machine from the "
                            + "Reforge medium and run `reforge boot-repair`"
                    } ?? ""))
        case .notNeeded: break
        }
        self.init(lines + changes)
    }

    /// A logical volume under the partition that it lies in.
    private static func volumeRow(_ volume: RestorePlan.Volume) -> [String] {
        let change = volume.toByteCount > volume.fromByteCount ? "grow" : "shrink"
        return [
            "", volume.name, "logical volume", volume.filesystem, "", "", ByteText.rounded(volume.fromByteCount),
            ByteText.rounded(volume.toByteCount), "",
            volume.toByteCount == volume.fromByteCount ? "keep its size" : change,
        ]
    }

    private static func place(_ offset: UInt64) -> String { ByteText.rounded(offset) }
}
