// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Makes a restored disk bootable on this machine: survey (reads only) → plan (a pure value) → execute.
///
/// Each boot loader is a row of `BootLoaders.table`. Idempotent: the plan for a bootable disk has no steps.
package enum BootRepair {
    /// Observes how a disk boots. Partitions are mounted read-only, without replaying journals, at a private path.
    /// - Parameters:
    ///   - disk: opened `.readOnly`: opening it exclusively would prevent mounting its partitions.
    ///   - log: receives each surveyed object.
    /// - Throws: `BootRepairError` if the disk cannot be read or is in use. An inaccessible system is not an error: the
    ///   survey records the reason.
    package static func survey(
        disk: BlockDevice, options: BootRepairOptions = BootRepairOptions(), log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> SystemBootSurvey {
        try BootSurveyor(disk: disk, options: options).survey(log)
    }

    /// Makes a plan. Pure: the result depends only on the parameters.
    package static func plan(
        _ survey: SystemBootSurvey, options: BootRepairOptions = BootRepairOptions()
    ) -> BootRepairPlan {
        var planner = BootRepairPlanner(BootTarget(survey, options))
        return planner.plan()
    }

    /// Executes a plan. A failed step does not prevent the others: the outcome lists it.
    /// - Parameters:
    ///   - disk: the disk of the plan, opened `.readOnly`; writes use separate descriptors.
    ///   - keys: the files with the keys of LUKS volumes: those of the survey's options.
    ///   - log: receives each step.
    /// - Throws: `BootRepairError` if the disk differs from the planned one, is in use, or its system cannot be
    ///   mounted.
    package static func execute(
        _ plan: BootRepairPlan, disk: BlockDevice, keys: [FilePath] = [], log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> BootRepairOutcome {
        var executor = BootRepairExecutor(plan: plan, disk: disk, keys: keys)
        return try executor.execute(log)
    }
}
