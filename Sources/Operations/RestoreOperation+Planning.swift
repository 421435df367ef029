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

extension RestoreOperation {
    func makePlan(_ header: ImageHeader, _ target: OpenedDisk) throws -> RestorePlan {
        let policy = try layoutPolicy()
        capturedTable = header.manifest.table
        guard let only = job.only else {
            return try RestorePlanner.plan(
                header, onto: target.identity, geometry: target.device.geometry,
                request: try layoutRequest(policy),
                obstacles: obstacles(), mustBoot: job.repairsBoot != false, trustsUnknown: job.trustsUnknown,
                firmware: try firmwareRequest(header.manifest))
        }
        let table = try PartitionTableReader.read(
            target.device, secondOpinion: SecondOpinion(descriptor: target.device.fileDescriptor.rawValue))
        guard !table.partitions.isEmpty else {
            throw JobFailure(
                .refused, "\(disk) has no partition table with partitions: --only needs one that exists")
        }
        return try RestorePlanner.plan(
            only: only, into: job.into, of: header, onto: target.identity, geometry: target.device.geometry,
            existing: table, policy: policy, obstacles: obstacles())
    }

    private func layoutRequest(_ policy: LayoutPolicy) throws -> LayoutRequest {
        do { return try LayoutRequest(policy: policy, parsing: job.partitions) } catch {
            throw JobFailure(.usage, "--partition: \(error)")
        }
    }

    private func layoutPolicy() throws -> LayoutPolicy {
        guard let policy = LayoutPolicy(rawValue: job.layout) else {
            throw JobFailure(.usage, "\(job.layout) is no layout: keep, grow or proportional")
        }
        return policy
    }

    /// The resize operations that this machine, with the given keys, cannot perform.
    func obstacles() -> ResizeObstacles {
        ResizeObstacles(
            shrink: CompositeDevice.obstacle(),
            encrypted: job.luksKeyFiles.isEmpty
                ? "LUKS is made smaller only with its key (--luks-key-file)" : OpenedLUKS.obstacle(),
            volumeGroup: VolumeGroupResizer.obstacle(to:))
    }

    /// Refuses a plan that shrinks filesystems, or grows LUKS, in a way that this machine cannot perform.
    func refuseObstacles(to plan: RestorePlan) throws {
        for shrink in plan.shrinks {
            var obstacle = shrink.shrinking.lazy.compactMap(FilesystemResizer.toolObstacle(toShrink:)).first
            if shrink.needsComposite,
                let twin = twins(of: shrink.filesystem, besides: plan.target.kernelName).first
            {
                obstacle =
                    "\(twin) holds a copy of the same \(shrink.filesystem.kindName) (UUID \(shrink.filesystem.uuid ?? "")): "
                    + "detach that disk first, so that nothing takes one for the other"
            }
            if let obstacle {
                throw JobFailure(
                    .refused, "partition \(shrink.number) would have to be made smaller, and \(obstacle)")
            }
        }
        if !job.luksKeyFiles.isEmpty, !plan.encryptedGrowths.isEmpty, let obstacle = OpenedLUKS.obstacle() {
            throw JobFailure(
                .refused,
                "LUKS cannot be opened here: \(obstacle). Without --luks-key-file it is restored anyway, and its contents keep their size"
            )
        }
    }

    /// Tries the keys on the LUKS volumes of the image, if it can be read twice: a wrong key must be found before the
    /// target is overwritten.
    func tryKeys(
        _ keyFiles: [FilePath], on plan: inout RestorePlan, _ input: OpenedImage
    ) throws {
        let numbers = plan.encryptedNumbers
        var locked = keyFiles.isEmpty ? numbers : []
        if !keyFiles.isEmpty, !numbers.isEmpty, image != "-" {
            locked = try again(input, .restore).reading { [plan] reader in
                try KeyTrial.locked(
                    plan, in: job.salvages ? SalvageReader(reader, Salvage()) : reader, keyFiles: keyFiles,
                    cancellation: cancellation)
            }
            let needed = plan.shrinks.first { $0.filesystem.kind == .luks && locked.contains($0.number) }?.number
            if let needed {
                throw JobFailure(
                    .refused,
                    "none of the given keys (--luks-key-file) opens the LUKS volume of partition \(needed), which must shrink"
                )
            }
            guard locked.count < numbers.count else {
                throw JobFailure(
                    .refused,
                    "none of the given keys (--luks-key-file) opens a LUKS volume that gets a larger partition: its contents grow "
                        + "with the right key, and keep their size without the option")
            }
        }
        plan.leaveLocked(locked)
    }
}
