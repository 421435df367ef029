// SPDX-License-Identifier: GPL-3.0-or-later

/// The part of a boot repair plan that one loader asks for.
package struct LoaderPlan: Equatable, Sendable {
    package var steps: [BootRepairStep] = []
    /// What is right as it is, a sentence each.
    package var alreadyRight: [String] = []
    /// What a person should know, a sentence each.
    package var warnings: [String] = []
    /// What is needed and cannot be done here, a sentence each.
    package var pending: [String] = []
    /// Whether something pending could be done from the medium.
    package var mediumHelps = false
    /// The file on the EFI system partition that UEFI firmware is to start. The fallback loader and the firmware's entry
    /// follow from the first one in the table.
    package var start: PlannedLoader?
    /// The folder of its configuration in the installed system.
    package var configurationFolder: String?
    /// Where its configuration lets the system resume from hibernation that is not on this disk.
    package var lostResume: [String] = []

    package init() {}

    /// Notes something that is needed and cannot be done; as a warning only where this machine starts without it.
    package mutating func fail(_ sentence: String, _ obstacle: BootObstacle?, matters: Bool) {
        guard matters else {
            warnings.append(sentence)
            return
        }
        pending.append(sentence)
        if obstacle?.onlyHere == true { mediumHelps = true }
    }

    /// Puts another plan behind this one.
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

/// Why something cannot be done.
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
