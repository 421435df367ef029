// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension DoctorQuestion {
    /// Repairs how a disk of this virtual machine starts on the machine of the question. The firmware's entries are
    /// left alone: they are this machine's.
    /// - Parameters:
    ///   - keyFiles: the files with the keys of LUKS volumes.
    ///   - log: receives what is done, in texts that the disk can choose.
    /// - Throws: only if nothing was changed.
    package func repair(disk: FilePath, keyFiles: [FilePath], log: (String) -> Void) throws -> RepairAnswer {
        let options = options(keyFiles)
        let device = try BlockDevice(opening: disk)
        let survey = try BootRepair.survey(disk: device, options: options, log: log)
        let plan = BootRepair.plan(survey, options: options)
        var answer = RepairAnswer(before: report(on: survey, options))
        func shown(_ text: String) -> String { RepairAnswer.shown(text, hidden: disk.string, subject: subject) }
        guard !plan.steps.isEmpty else {
            answer.pending = plan.pendingReason.map(shown)
            return answer
        }
        do {
            let outcome = try BootRepair.execute(plan, disk: device, keys: keyFiles, log: log)
            answer.changed = outcome.changed.map(shown)
            answer.warnings = outcome.warnings.map(shown)
            answer.pending = outcome.pending.map(shown)
            Machine.sync()
            try device.flush()
            // Partitions and the disk have caches of their own: the second survey must see what was written.
            try device.dropCache()
            answer.after = report(on: try BootRepair.survey(disk: device, options: options, log: log), options)
        } catch { answer.failure = shown("\(error)") }
        return answer
    }
}
