// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

// `--json` prints the JSON of a plan, and the digest in a journal is computed from it: a restore that an older version
// began resumes only if both are equal to the byte.
extension RestorePlan: Encodable {
    private enum CodingKeys: String, CodingKey {
        case imageUUID, target, geometry, request, items, regionTargets, placements, only, tableIsUnchanged, growths
        case shrinks, remakes, warnings
    }

    /// Writes the plan with numbers for destinations.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(imageUUID, forKey: .imageUUID)
        try container.encode(target, forKey: .target)
        try container.encode(geometry, forKey: .geometry)
        try container.encode(request, forKey: .request)
        try container.encode(items, forKey: .items)
        try container.encode(regionTargets, forKey: .regionTargets)
        try container.encodeIfPresent(placements, forKey: .placements)
        try container.encodeIfPresent(only, forKey: .only)
        try container.encode(tableIsUnchanged, forKey: .tableIsUnchanged)
        try container.encode(growths, forKey: .growths)
        try container.encode(shrinks, forKey: .shrinks)
        try container.encode(remakes, forKey: .remakes)
        try container.encode(warnings, forKey: .warnings)
    }

    /// The first number for spills, beyond any disk: an image's disk has 2^60 bytes at most.
    private static let firstSpillNumber: UInt64 = 1 << 61

    /// For each destination its byte on the disk, or `nil` if skipped; spills are numbered as if they lay one after the
    /// other from 2^61 on.
    private var regionTargets: [UInt64?] {
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
