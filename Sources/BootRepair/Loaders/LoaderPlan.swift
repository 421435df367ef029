// SPDX-License-Identifier: GPL-3.0-or-later

/// A loader's part of a boot repair plan.
package struct LoaderPlan: Equatable, Sendable {
    package var steps: [BootRepairStep] = []
    /// Findings that need no change, a sentence each.
    package var alreadyRight: [String] = []
    /// Warnings for the user, a sentence each.
    package var warnings: [String] = []
    /// The needed work that cannot be done here, a sentence each.
    package var pending: [String] = []
    /// Whether pending work could be done from the medium.
    package var mediumHelps = false
    /// The file on the EFI system partition to be started by UEFI firmware. The fallback loader and the firmware's
    /// entry use the first one in the table.
    package var start: PlannedLoader?
    /// The folder of its configuration in the installed system.
    package var configurationFolder: String?
    /// The missing devices from which its configuration resumes from hibernation.
    package var lostResume: [String] = []

    package init() {}

    /// Records needed work that cannot be done: as pending, or as a warning if this machine starts without it.
    package mutating func fail(_ sentence: String, _ obstacle: BootObstacle?, matters: Bool) {
        guard matters else {
            warnings.append(sentence)
            return
        }
        pending.append(sentence)
        if obstacle?.onlyHere == true { mediumHelps = true }
    }

    /// Appends another plan.
    mutating func append(_ other: LoaderPlan) {
        steps += other.steps
        alreadyRight += other.alreadyRight
        warnings += other.warnings
        pending += other.pending
        mediumHelps = mediumHelps || other.mediumHelps
        start = start ?? other.start
        configurationFolder = configurationFolder ?? other.configurationFolder
        lostResume += other.lostResume.filter { !lostResume.contains($0) }
    }
}

/// The reason something cannot be done.
package struct BootObstacle: Equatable, Sendable {
    /// As a sentence part.
    package let reason: String
    /// Whether it could be done in the recovery environment.
    package let onlyHere: Bool

    package init(_ reason: String, onlyHere: Bool = false) {
        self.reason = reason
        self.onlyHere = onlyHere
    }
}
