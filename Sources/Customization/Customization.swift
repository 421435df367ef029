// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import LinuxSystem
import SystemPackage

/// Gives a cloned system its own identity: survey (reads only) → plan (a pure value) → execute. Runs hooks in it.
///
/// Only when asked for, never by itself: a restored machine is the captured one.
package enum Customization {
    /// Observes the identity of the system on a disk.
    /// - Parameters:
    ///   - disk: opened `.readOnly`: opening it exclusively would prevent mounting its partitions.
    ///   - options: how the system is found: the key files of LUKS volumes, and the names that the disk and its
    ///     partitions had when they were captured.
    ///   - log: receives each surveyed object.
    package static func survey(
        disk: BlockDevice, options: BootRepairOptions = BootRepairOptions(touchNVRAM: false),
        log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> IdentitySurvey {
        let boot = try BootRepair.survey(disk: disk, options: options, log: log)
        var surveyor = IdentitySurveyor(disk, boot, keys: options.luksKeyFiles)
        return try surveyor.run(log)
    }

    /// Makes a plan. Pure: the result depends only on the parameters.
    package static func plan(_ survey: IdentitySurvey, _ request: IdentityRequest) -> IdentityPlan {
        var planner = IdentityPlanner(survey, request)
        return planner.plan()
    }

    /// Executes a plan. A failed step does not prevent the others: the outcome lists it.
    /// - Parameters:
    ///   - disk: the disk of the plan, opened `.readOnly`; writes use separate descriptors.
    ///   - keys: the files with the keys of LUKS volumes, as in the survey.
    ///   - log: receives each step.
    /// - Throws: `BootRepairError` if the disk differs from the planned one, is in use, or its system cannot be
    ///   mounted.
    package static func execute(
        _ plan: IdentityPlan, disk: BlockDevice, keys: [FilePath] = [], log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> IdentityOutcome {
        try withoutActuallyEscaping(log) { log throws(BootRepairError) in
            var executor = IdentityExecutor(plan, disk, keys, log)
            return try executor.execute()
        }
    }
}
