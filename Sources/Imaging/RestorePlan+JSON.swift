// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension RestorePlan {
    /// The JSON of a plan: what `--json` prints, and what the digest in a journal is made of. A restore that an older version
    /// began goes on only where both are the same to the byte.
    package struct JSON: Encodable, Sendable {
        /// What is written.
        package let plan: RestorePlan
        /// The plan's warnings as sentences; none in a digest.
        package let warnings: [String]

        private enum CodingKeys: String, CodingKey {
            case imageUUID, target, geometry, request, items, regionTargets, placements, only, tableIsUnchanged, growths
            case shrinks, remakes, warnings
        }

        /// Takes the sentences from whoever shows the plan.
        package init(_ plan: RestorePlan, warnings: [String]) {
            self.plan = plan
            self.warnings = warnings
        }

        /// Writes it with numbers for destinations.
        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(plan.imageUUID, forKey: .imageUUID)
            try container.encode(plan.target, forKey: .target)
            try container.encode(plan.geometry, forKey: .geometry)
            try container.encode(plan.request, forKey: .request)
            try container.encode(plan.items, forKey: .items)
            try container.encode(plan.regionTargets, forKey: .regionTargets)
            try container.encodeIfPresent(plan.placements, forKey: .placements)
            try container.encodeIfPresent(plan.only, forKey: .only)
            try container.encode(plan.tableIsUnchanged, forKey: .tableIsUnchanged)
            try container.encode(plan.growths, forKey: .growths)
            try container.encode(plan.shrinks, forKey: .shrinks)
            try container.encode(plan.remakes, forKey: .remakes)
            try container.encode(warnings, forKey: .warnings)
        }
    }

    /// The first number for spills, beyond any disk: an image's disk has 2^60 bytes at most.
    private static let firstSpillNumber: UInt64 = 1 << 61

    /// For each destination its byte on the disk, or `nil` where it is skipped; spills are numbered as if they lay one behind
    /// the other from 2^61 on.
    fileprivate var regionTargets: [UInt64?] {
        var next = Self.firstSpillNumber
        var numbers: [(spill: Spill, number: UInt64)] = []
        for spill in spills {
            numbers.append((spill, next))
            next += spill.byteCount
        }
        return destinations.map { destination -> UInt64? in
            switch destination {
            case .disk(let offset): return offset
            case .spill(let spill): return numbers.first { $0.spill == spill }?.number
            case .skipped: return nil
            }
        }
    }
}

extension RestorePlan.Item: Encodable {
    private enum CodingKeys: String, CodingKey {
        case number, name, type, filesystem, label, from, to, usedByteCount, action, volumes
    }

    /// Writes the item with its actions in words.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(number, forKey: .number)
        try container.encode(name, forKey: .name)
        try container.encode(type, forKey: .type)
        try container.encode(filesystem, forKey: .filesystem)
        try container.encodeIfPresent(label, forKey: .label)
        try container.encode(from, forKey: .from)
        try container.encode(to, forKey: .to)
        try container.encode(usedByteCount, forKey: .usedByteCount)
        try container.encode(action, forKey: .action)
        try container.encodeIfPresent(volumes, forKey: .volumes)
    }
}
