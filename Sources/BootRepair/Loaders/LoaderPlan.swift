// SPDX-License-Identifier: GPL-3.0-or-later

/// A loader's part of a boot repair plan.
package struct LoaderPlan: Equatable, Sendable {
    package var steps: [BootRepairStep] = []
    /// What needs no change, a sentence each.
    package var alreadyRight: [String] = []
    /// What is wrong, or to be known, and the steps that repair it. Made by `find` and `fail`.
    package private(set) var findings: [Finding] = []
    /// Whether pending work could be done from the medium.
    package var mediumHelps = false
    /// The firmware that this loader is on the disk for, whether it works or not.
    package var firmware: Set<Firmware> = []
    /// The file on the EFI system partition to be started by UEFI firmware. The fallback loader and the firmware's
    /// entry use the first one in the table.
    package var start: PlannedLoader?
    /// The folder of its configuration in the installed system.
    package var configurationFolder: String?

    package init() {}

    /// Records a finding that these steps repair, and plans the steps.
    package mutating func find(
        _ code: FindingCode, _ sentence: String, severity: Finding.Severity? = nil,
        at evidence: Finding.Evidence? = nil,
        fixedBy steps: [BootRepairStep]
    ) {
        self.steps += steps
        let fix = Finding.Fix.steps(steps.map(\.description))
        find(Finding(code, sentence, severity: severity, at: evidence, fix: fix))
    }

    /// Records a finding without a repair.
    /// - Parameter reason: why there is none, or what a person can do, as a sentence part; empty where nothing needs
    ///   to be done.
    package mutating func find(
        _ code: FindingCode, _ sentence: String, severity: Finding.Severity? = nil,
        at evidence: Finding.Evidence? = nil,
        unfixed reason: String
    ) {
        find(Finding(code, sentence, severity: severity, at: evidence, fix: .none(reason)))
    }

    /// Records a finding whose repair is needed and cannot be done: boot repair is not finished.
    /// - Parameter matters: whether the machine needs it to start; otherwise it is only a note.
    package mutating func fail(
        _ code: FindingCode, _ sentence: String, at evidence: Finding.Evidence? = nil, _ obstacle: BootObstacle,
        matters: Bool
    ) {
        find(
            Finding(
                code, sentence, severity: matters ? nil : .note, at: evidence,
                fix: matters ? .pending(obstacle.reason) : .none(obstacle.reason)))
        if matters, obstacle.onlyHere { mediumHelps = true }
    }

    /// Records a finding once: one device may be named in several places.
    mutating func find(_ finding: Finding) {
        guard !findings.contains(where: { $0.code == finding.code && $0.sentence == finding.sentence }) else { return }
        findings.append(finding)
    }

    /// Appends another plan.
    mutating func append(_ other: LoaderPlan) {
        steps += other.steps
        alreadyRight += other.alreadyRight
        for finding in other.findings { find(finding) }
        mediumHelps = mediumHelps || other.mediumHelps
        firmware.formUnion(other.firmware)
        start = start ?? other.start
        configurationFolder = configurationFolder ?? other.configurationFolder
    }

    /// Takes out a step that must not run, and says why in the findings that it would have repaired.
    mutating func leaveOut(_ step: BootRepairStep, because reason: String) {
        steps.removeAll { $0 == step }
        let text = "\(step)"
        var isNamed = false
        for index in findings.indices {
            guard case .steps(let steps) = findings[index].fix, steps.contains(text) else { continue }
            findings[index].fix = .none("left out: \(text): \(reason)")
            isNamed = true
        }
        if !isNamed { find(.stepRefused, "left out: \(text)", unfixed: reason) }
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
