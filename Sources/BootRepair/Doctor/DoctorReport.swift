// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a disk does not start, and what repairs it: the result of `reforge doctor`.
package struct DoctorReport: Codable, Equatable, Sendable {
    /// The version of the JSON.
    package var schema = 1
    /// The disk, image or snapshot, as given by the user.
    package var subject: String
    /// The machine that it was judged for; `nil` for any.
    package var machine: String?
    /// The firmware that it was judged for first.
    package var firmware: Firmware
    /// The name of the installed system.
    package var system: String?
    /// Whether a finding says that the system does not start.
    package var stops: Bool
    /// What is right, a sentence each.
    package var alreadyRight: [String]
    /// In the order of a start.
    package var findings: [Finding]

    /// The judgment of a surveyed disk. Pure: the result depends only on the parameters.
    package init(_ survey: SystemBootSurvey, options: BootRepairOptions, subject: String) {
        let plan = BootRepair.plan(survey, options: options)
        self.subject = DoctorText.shown(subject, limit: 1000)
        machine = options.machine.map { DoctorText.shown($0.name) }
        firmware = survey.firmware
        system = plan.systemName.map { DoctorText.shown($0) }
        alreadyRight = plan.alreadyRight.map { DoctorText.shown($0, limit: 1000) }
        findings = plan.findings.map(\.shown)
        stops = plan.findings.contains { $0.severity == .stops }
    }

    /// The report as text, a line each.
    package var lines: [String] {
        var lines = [
            "\(subject): \(system ?? "no installed Linux system found"), judged for "
                + (machine.map { "\($0), \(firmware)" } ?? "any machine (--for this|MACHINE.json names one)")
        ]
        lines += findings.flatMap(\.lines).map { "  \($0)" }
        lines += alreadyRight.map { "  right: \($0)" }
        lines.append(stops ? "  it does not start" : "  nothing that was found stops it")
        return lines
    }
}

extension DoctorReport {
    /// Upper bounds on a report from a virtual machine.
    package static let longestJSON = 4 << 20
    private static let mostFindings = 4096
    private static let mostSteps = 256

    package func json() throws -> [UInt8] { try DoctorJSON.encode(self) }

    /// Reads a report of the agent, which may have been taken over by the disk that it judged: its codes are in the
    /// table, and its texts cannot harm a terminal.
    package init(json: [UInt8]) throws(DoctorError) {
        self = try DoctorJSON.decode(DoctorReport.self, json, limit: Self.longestJSON)
        try check()
    }

    /// Refuses what no agent sends; whether it starts follows from the findings.
    mutating func check() throws(DoctorError) {
        guard schema == 1 else { throw .malformed("it is of version \(schema)") }
        guard findings.count <= Self.mostFindings, alreadyRight.count <= Self.mostFindings else {
            throw .malformed("it has \(findings.count) findings")
        }
        var texts = alreadyRight + [subject, machine ?? "", system ?? ""]
        for finding in findings {
            guard FindingCode.named(finding.code)?.stage == finding.stage else {
                throw .malformed("\(DoctorText.shown(finding.code)) is no code of this stage")
            }
            texts += [finding.sentence, finding.evidence?.file ?? ""]
            switch finding.fix {
            case .steps(let steps):
                guard steps.count <= Self.mostSteps else { throw .malformed("it has \(steps.count) steps") }
                texts += steps
            case .pending(let reason), .none(let reason): texts.append(reason)
            }
        }
        guard texts.allSatisfy({ DoctorText.isPlain($0) }) else {
            throw .malformed("a text in it is too long, or has control characters")
        }
        stops = findings.contains { $0.severity == .stops }
    }
}
