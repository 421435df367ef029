// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import Customization
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem

extension RestoreOperation {
    /// Gives the restored system a new identity. A failure leaves the data complete, and is reported with the command
    /// that finishes it.
    func renewIdentity(
        _ request: IdentityRequest, _ report: inout RestoreReport, _ target: OpenedDisk?, capturedDiskName: String?
    ) {
        do {
            let opened = try reopened(target, report)
            // fstab may still name partitions as the captured disk did: boot repair comes later.
            let options = try customizationOptions(report.plan.plan, capturedDiskName: capturedDiskName)
            let plan = Customization.plan(
                try Customization.survey(disk: opened.device, options: options), request)
            events.log(plan.description)
            let outcome = try Customization.execute(plan, disk: opened.device, keys: options.luksKeyFiles) {
                events.log($0)
            }
            report.identity = IdentityReport(plan, outcome)
            report.warnings += outcome.warnings
            report.incomplete += outcome.pending.map { "new identity: \($0)" }
        } catch {
            report.incomplete.append(
                "new identity: \(JobFailure(error, cancellation: cancellation).message); run: reforge customize \(disk) "
                    + "--new-identity=\(request)\(keyArguments)")
        }
    }

    /// Runs the hooks in the restored system, each with the report so far as JSON on its standard input.
    func runHooks(
        _ hooks: [HookScript], _ report: inout RestoreReport, _ target: OpenedDisk?, capturedDiskName: String?
    ) {
        do {
            let opened = try reopened(target, report)
            let results = try Customization.run(
                hooks, on: opened.device, input: try JSONText.encode(report) + [10],
                options: try customizationOptions(report.plan.plan, capturedDiskName: capturedDiskName)
            ) { events.log($0) }
            report.hooks = results
            report.incomplete += SystemChanges.problems(results, of: hooks)
        } catch {
            report.incomplete.append(
                "the hooks did not run: \(JobFailure(error, cancellation: cancellation).message); run: reforge customize "
                    + "\(disk)\(keyArguments) with them")
        }
    }

    private var keyArguments: String { job.luksKeyFiles.isEmpty ? "" : " --luks-key-file …" }

    /// How the restored system is found: inside of LUKS too, and by the names of the captured disk.
    private func customizationOptions(
        _ plan: RestorePlan, capturedDiskName: String?
    ) throws -> BootRepairOptions {
        var options = BootRepairOptions(touchNVRAM: false, capturedDiskName: capturedDiskName)
        options.capturedPartUUIDs = capturedPartUUIDs(plan)
        options.luksKeyFiles = try LUKSKeys(job.luksKeyFiles).keyFiles()
        return options
    }

    /// The target after the restore, as for boot repair: a device was closed for a moment, and must still be the same
    /// one.
    private func reopened(_ target: OpenedDisk?, _ report: RestoreReport) throws -> OpenedDisk {
        let opened = try target ?? OpenedDisk(disk, .readOnly, sectorSize: job.sectorSize)
        guard opened.identity == report.plan.plan.target else {
            throw JobFailure(.refused, "\(disk) is another disk than the one that was restored")
        }
        try TargetGuard.refuseDanger(opened, image: nil, events, cancellation)
        return opened
    }
}
