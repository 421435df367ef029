// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// Makes a restored disk start on the machine at hand: survey (reads only) → plan (a pure value) → execute.
///
/// Each boot loader is a row of `BootLoaders.table`. Idempotent: a plan for a disk that is right has no steps.
package enum BootRepair {
    /// Observes how a disk boots. Partitions are mounted read-only, without replaying journals, at a private place.
    /// - Parameters:
    ///   - disk: opened `.readOnly`: an exclusive hold of it would keep its partitions from being mounted.
    ///   - log: is told what is looked at.
    /// - Throws: `BootRepairError` where the disk cannot be read or is in use. A system that cannot be looked into is not an
    ///   error: the survey says why.
    package static func survey(
        disk: BlockDevice, options: BootRepairOptions = BootRepairOptions(), log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> SystemBootSurvey {
        try BootSurveyor(disk: disk, options: options).survey(log)
    }

    /// Makes a plan. Pure: it looks at nothing but its parameters.
    package static func plan(
        _ survey: SystemBootSurvey, options: BootRepairOptions = BootRepairOptions()
    ) -> BootRepairPlan {
        var planner = BootRepairPlanner(BootTarget(survey, options))
        return planner.plan()
    }

    /// Does what a plan says. A step that fails does not keep the others from being done: it is named in the outcome.
    /// - Parameters:
    ///   - disk: the disk of the plan, opened `.readOnly`; what is written to it is written through descriptors of its own.
    ///   - log: is told what is done.
    /// - Throws: `BootRepairError` where the disk is another one, is in use, or its system cannot be mounted.
    package static func execute(
        _ plan: BootRepairPlan, disk: BlockDevice, log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> BootRepairOutcome {
        var executor = BootRepairExecutor(plan: plan, disk: disk)
        return try executor.execute(log)
    }
}
