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
    /// Whether boot repair follows a restore.
    package enum BootRepairChoice {
        case done
        /// Left out, because outside the recovery environment programs of a restored system run only on request.
        case leftOut
        /// Declined, or the captured disk had no boot code.
        case notNeeded
    }

    /// A disk that did not boot when it was captured, such as a data disk, needs no repair.
    func bootRepairChoice(_ manifest: Manifest) -> BootRepairChoice {
        guard job.repairsBoot != false, job.only == nil,
            manifest.boot.biosBootCode != nil || !manifest.boot.efiLoaders.isEmpty
        else { return .notNeeded }
        return job.repairsBoot ?? (SystemFacts.isRecoveryEnvironment || job.changesIdentifiers) ? .done : .leftOut
    }

    /// The doctor's findings that are known before anything is written; none for a single partition.
    func foreseenFindings(_ manifest: Manifest, _ plan: RestorePlan, _ target: OpenedDisk) -> [Finding] {
        guard job.only == nil else { return [] }
        let bitLocker = manifest.regions.filter { $0.filesystem?.kindName == "BitLocker" }
            .map { $0.partition.map { "partition \($0)" } ?? "the disk" }
        return ForeseenDisk(
            boot: manifest.boot, table: manifest.table, sectorSize: target.device.logicalSectorSize,
            bitLockerVolumes: bitLocker,
            wasSecureBoot: manifest.machine.secureBoot, conversion: plan.conversion
        ).findings(for: SystemFacts.isRecoveryEnvironment ? .current() : nil)
    }

    /// Makes the restored system boot here. A failure leaves the data complete, and is reported with the command that
    /// finishes the repair.
    /// - Parameter isClone: whether the source is still attached: the firmware's entries are its, and stay.
    func repairBoot(
        _ report: inout RestoreReport, _ target: OpenedDisk?, capturedDiskName: String?, isClone: Bool
    ) {
        do {
            let opened = try target ?? OpenedDisk(disk, .readOnly, sectorSize: job.sectorSize)
            // The device was closed for a moment: it must still be the same one, and not in use by another program.
            guard opened.identity == report.plan.plan.target else {
                throw JobFailure(.refused, "\(disk) is another disk than the one that was restored")
            }
            try TargetGuard.refuseDanger(opened, image: nil, events, cancellation)
            var options = bootRepairOptions(report.plan.plan, capturedDiskName: capturedDiskName, isClone: isClone)
            options.renewsSeeds = true
            options.luksKeyFiles = try LUKSKeys(job.luksKeyFiles).keyFiles()
            let survey = try BootRepair.survey(disk: opened.device, options: options)
            let plan = BootRepair.plan(survey, options: options)
            let kept = KeptFindings(DoctorReport(survey, options: options, subject: disk), disk: disk)
            events.log(plan.description)
            let outcome = try BootRepair.execute(plan, disk: opened.device, keys: options.luksKeyFiles) {
                events.log($0)
            }
            kept.add(outcome)
            report.bootRepair = .init(
                findings: plan.findings, changed: outcome.changed, pending: outcome.pending)
            report.warnings += outcome.warnings
            if let pending = outcome.pending { report.incomplete.append("boot repair: \(pending)") }
        } catch {
            let reason = JobFailure(error, cancellation: cancellation).message
            report.incomplete.append(
                "boot repair: \(reason); run: reforge boot-repair \(isClone ? "--no-nvram " : "")\(disk)")
        }
    }
}
