// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import SystemAccess

/// A step of an identity plan.
package struct IdentityStep: Encodable, Equatable, Sendable, CustomStringConvertible {
    package var part: IdentityPart
    /// A line for the user.
    package var description: String
    package var verb: IdentityVerb

    package init(_ part: IdentityPart, _ description: String, _ verb: IdentityVerb) {
        self.part = part
        self.description = description
        self.verb = verb
    }

    private enum CodingKeys: String, CodingKey { case part, description, paths, command, partition, from, to }

    package func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(part, forKey: .part)
        try values.encode(description, forKey: .description)
        switch verb {
        case .writeFile(let contents): try values.encode([contents.path], forKey: .paths)
        case .removeFiles(let paths), .renewSSHKeys(let paths): try values.encode(paths, forKey: .paths)
        case .runTool(let tool): try values.encode(tool.command, forKey: .command)
        case .replaceIdentifiers(let path): try values.encode([path], forKey: .paths)
        case .changeVolume(let change):
            try values.encode(change.number, forKey: .partition)
            try values.encode(change.change.old, forKey: .from)
            try values.encode(change.change.new, forKey: .to)
        case .renewGroup(_, let partition): try values.encode(partition, forKey: .partition)
        }
    }
}

/// The changes that give a system a new identity, and no others.
package struct IdentityPlan: Encodable, Equatable, Sendable, CustomStringConvertible {
    package var disk: DiskIdentity
    package var diskGUID: GUID?
    package var diskSignature: UInt32?
    package var volumes: [BootVolume]
    package var systemName: String?
    package var mounts: SystemMounts
    /// The EFI system partition, if the system's fstab does not mount it.
    package var esp: Int?
    /// The steps, in order.
    package var steps: [IdentityStep]
    /// Findings that need no change, a sentence each.
    package var alreadyRight: [String]
    /// Warnings for the user, a sentence each.
    package var warnings: [String]
    /// What cannot be renewed offline, and what to do in the started system, a sentence each.
    package var byHand: [String]
    /// What was asked for and cannot be done here, a sentence each.
    package var pending: [String]
    /// The pairs of an interrupted change that did reach their volumes: only references are left.
    package var unfinished: [IdentifierChange]
    /// Whether the system holds the record of an interrupted change.
    package var hasRecord: Bool
    /// Whether files that may name identifiers are out of reach: then the record stays for the next run.
    package var keepsRecord: Bool

    private enum CodingKeys: String, CodingKey {
        case disk, systemName, steps, alreadyRight, warnings, byHand, pending
    }

    package init(_ survey: IdentitySurvey) {
        disk = survey.disk
        (diskGUID, diskSignature) = (survey.diskGUID, survey.diskSignature)
        volumes = survey.volumes
        systemName = survey.system?.name
        mounts = survey.mounts
        esp = survey.esp
        hasRecord = !survey.unfinished.isEmpty
        keepsRecord = hasRecord && survey.hidesReferences
        unfinished = survey.unfinished.filter { pair in
            func isHere(_ identifier: String) -> Bool {
                survey.volumes.contains { $0.uuid?.lowercased() == identifier.lowercased() }
            }
            return isHere(pair.new) && !isHere(pair.old)
        }
        (steps, alreadyRight, warnings, byHand, pending) = ([], [], [], [], [])
    }

    /// Whether identifiers change to which loaders refer: boot repair should follow.
    package var changesIdentifiers: Bool { steps.contains(where: \.verb.isOfVolumes) || !unfinished.isEmpty }

    /// The planned changes of volumes.
    package var volumeChanges: [VolumeChange] {
        steps.compactMap { step in
            if case .changeVolume(let change) = step.verb { return change }
            return nil
        }
    }

    /// The plan as text, a line each.
    package var lines: [String] {
        var lines = ["New identity of \(disk.path): \(systemName ?? "no installed Linux system found")"]
        for (index, step) in steps.enumerated() { lines.append("  \(index + 1). \(step.part.rawValue): \(step)") }
        if steps.isEmpty { lines.append("  nothing to do") }
        lines += alreadyRight.map { "  right as it is: \($0)" }
        lines += warnings.map { "  warning: \($0)" }
        lines += byHand.map { "  in the started system: \($0)" }
        lines += pending.map { "  cannot be done here: \($0)" }
        return lines
    }

    /// The plan as text.
    package var description: String { lines.joined(separator: "\n") }
}
