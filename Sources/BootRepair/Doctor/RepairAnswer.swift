// SPDX-License-Identifier: GPL-3.0-or-later

/// What the appliance's agent did to a disk that it may write to.
package struct RepairAnswer: Codable, Equatable, Sendable {
    /// The version of the JSON.
    package var schema = 1
    /// The disk before the first change.
    package var before: DoctorReport
    /// The disk afterwards; `nil` if nothing was changed.
    package var after: DoctorReport?
    /// The changes, a sentence each.
    package var changed: [String] = []
    /// What did not go as planned and leaves nothing to do, a sentence each.
    package var warnings: [String] = []
    /// The remaining work; `nil` if there is none.
    package var pending: String?
    /// Why the state of the disk is unknown; `nil` if it is known. Such a disk must not be used.
    package var failure: String?

    package init(before: DoctorReport) { self.before = before }

    /// The findings that are left.
    package var findings: [Finding] { (after ?? before).findings }
}

extension RepairAnswer {
    /// Upper bound on an answer from a virtual machine: two reports, and the texts about the changes.
    package static let longestJSON = 3 * DoctorReport.longestJSON
    private static let mostTexts = 4096

    package func json() throws -> [UInt8] { try DoctorJSON.encode(self) }

    /// Reads an answer of the agent, which may have been taken over by the disk that it repaired.
    package init(json: [UInt8]) throws(DoctorError) {
        self = try DoctorJSON.decode(RepairAnswer.self, json, limit: Self.longestJSON)
        guard schema == 1 else { throw .malformed("it is of version \(schema)") }
        try before.check()
        try after?.check()
        guard changed.count <= Self.mostTexts, warnings.count <= Self.mostTexts else {
            throw .malformed("it has \(changed.count) changes")
        }
        guard (changed + warnings + [pending ?? "", failure ?? ""]).allSatisfy({ DoctorText.isPlain($0) }) else {
            throw .malformed("a text in it is too long, or has control characters")
        }
    }

    /// A text of boot repair, which quotes files of the disk and output of its programs.
    /// - Parameters:
    ///   - hidden: the disk's path in this machine, which it has nowhere else.
    ///   - subject: the name for the user.
    static func shown(_ text: String, hidden: String, subject: String) -> String {
        DoctorText.shown(text.replacing(hidden, with: subject), limit: 1000)
    }
}
