// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

extension RestorePlan {
    /// The JSON of a plan, for `--json` and for the digest in a journal. A restore begun by an older version continues
    /// only if the digest is equal, so the encoding must not change by a byte.
    package struct JSON: Encodable, Sendable {
        package let plan: RestorePlan
        /// The plan's warnings as sentences; none in a digest.
        package let warnings: [String]

        private enum CodingKeys: String, CodingKey {
            case imageUUID, target, geometry, request, items, regionTargets, placements, only, tableIsUnchanged, growths
            case shrinks, remakes, conversion, warnings
        }

        /// - Parameter warnings: the sentences of the warnings; `Imaging` has only their codes.
        package init(_ plan: RestorePlan, warnings: [String]) {
            self.plan = plan
            self.warnings = warnings
        }

        /// Encodes destinations as numbers.
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
            try container.encodeIfPresent(plan.conversion, forKey: .conversion)
            try container.encode(warnings, forKey: .warnings)
        }
    }

    /// The first number for spills, beyond any disk: the disk of an image has at most 2^60 bytes.
    private static let firstSpillNumber: UInt64 = 1 << 61

    /// For each destination, its offset on the disk; `nil` if it is skipped. Spills are numbered as if they followed
    /// each other from 2^61 on.
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

    /// Encodes the actions as words.
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
