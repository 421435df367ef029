// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport

@testable import DiskModel

/// A random question to the layout planner: a disk, the abilities of its partitions, a target and a request.
struct RandomLayoutCase {
    var table: PartitionTable
    var source: DiskGeometry
    var filesystems: [Int: FilesystemInfo] = [:]
    var abilities: [Int: PartitionAbility] = [:]
    var target: DiskGeometry
    var request = LayoutRequest()

    func plan() throws(LayoutError) -> DiskLayout {
        try LayoutPlanner.plan(
            table, source: source, filesystems: filesystems, abilities: abilities, target: target, request: request)
    }

    /// All random values, one partition per line, and the result.
    var summary: String {
        var lines = ["\(source) onto \(target), \(table.kind), usable \(table.usable), \(request.policy)"]
        let layout = try? plan()
        for partition in table.partitions.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) {
            let number = partition.number
            let place = layout?.placements.first { $0.number == number }?.to
            lines.append(
                "\(number) \(partition.mbr?.role.rawValue ?? "") \(partition.range), "
                    + "\(PartitionType.name(of: partition.typeGUID)), \(request.wishes[number]?.description ?? "no wish"), "
                    + "\(abilities[number].map { "\($0)" } ?? "rigid") -> \(place.map { "\($0)" } ?? "nowhere")")
        }
        return lines.joined(separator: "\n")
    }

    init(using random: inout SeededGenerator) {
        let sector: UInt64 = Int.random(in: 0..<4, using: &random) == 0 ? 4096 : 512
        let isMBR = Bool.random(using: &random)
        let entryCount = [4, 128, 128, 256].randomElement(using: &random) ?? 128
        let head = isMBR ? sector : 2 * sector + (UInt64(entryCount) * 128 + sector - 1) / sector * sector
        var maker = DiskMaker(sector: sector, head: head, using: &random)
        if isMBR { maker.addMBR(using: &random) } else { maker.addGPT(using: &random) }
        maker.partitions.shuffle(using: &random)
        let backup = isMBR ? 0 : head - sector
        var size = maker.end + backup
        if Bool.random(using: &random) {
            size += UInt64.random(in: 0...(maker.end / sector), using: &random) * sector
        }
        table = PartitionTable(
            kind: isMBR ? .mbr : .gpt, usable: head..<size - backup, entryCount: isMBR ? 4 : entryCount,
            partitions: maker.partitions)
        // A file need not end on a sector.
        let odd = Int.random(in: 0..<8, using: &random) == 0 ? UInt64.random(in: 1..<sector, using: &random) : 0
        source = DiskGeometry(byteCount: size + odd, logicalSectorSize: Int(sector))
        target = source
        drawContents(using: &random)
        drawTarget(using: &random)
        drawRequest(using: &random)
    }

    private mutating func drawContents(using random: inout SeededGenerator) {
        for partition in table.partitions where partition.isVolume {
            let length = partition.range.byteCount
            filesystems[partition.number] = FilesystemInfo(
                kind: .ext4, kindName: "ext4", byteCount: length, mapSource: .allocationStructures,
                lastMountPoint: Int.random(in: 0..<8, using: &random) == 0 ? "/boot" : nil)
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1: break
            case 2: abilities[partition.number] = PartitionAbility(leastByteCount: length, reason: "it is rigid")
            case 3:
                abilities[partition.number] = PartitionAbility(
                    leastByteCount: length + .random(in: 0...40 << 20, using: &random),
                    canGrow: Bool.random(using: &random), reason: "the target asks for it")
            default:
                abilities[partition.number] = PartitionAbility(
                    leastByteCount: .random(in: 0...length, using: &random), canGrow: Bool.random(using: &random),
                    canShrink: Bool.random(using: &random))
            }
        }
    }

    private mutating func drawTarget(using random: inout SeededGenerator) {
        switch Int.random(in: 0..<6, using: &random) {
        case 0: break
        case 1: target.byteCount = .random(in: 1...source.byteCount, using: &random)
        case 2: target.byteCount = source.byteCount - .random(in: 0...source.byteCount / 20, using: &random)
        default: target.byteCount = .random(in: source.byteCount / 2...3 * source.byteCount, using: &random)
        }
        if Int.random(in: 0..<5, using: &random) == 0 {
            target.logicalSectorSize = source.logicalSectorSize == 512 ? 4096 : 512
        }
        target.optimalIOSize = [0, 4096, 4 << 20, 33_553_920].randomElement(using: &random) ?? 0
    }

    private mutating func drawRequest(using random: inout SeededGenerator) {
        request.policy = LayoutPolicy.allCases.randomElement(using: &random) ?? .keep
        guard Bool.random(using: &random) else { return }
        for partition in table.partitions where partition.isVolume && Int.random(in: 0..<3, using: &random) == 0 {
            switch Int.random(in: 0..<5, using: &random) {
            case 0: request.wishes[partition.number] = .keep
            case 1: request.wishes[partition.number] = .drop
            case 2: request.wishes[partition.number] = .rest
            default:
                request.wishes[partition.number] = .size(
                    .random(in: 1...2 * partition.range.byteCount, using: &random))
            }
        }
    }
}

/// Draws consecutive partitions.
private struct DiskMaker {
    static let types = [
        PartitionType.efiSystem, PartitionType.linuxFilesystem, PartitionType.linuxFilesystem,
        PartitionType.linuxFilesystem, PartitionType.linuxSwap, PartitionType.biosBoot,
        PartitionType.microsoftBasicData, PartitionType.windowsRecovery,
    ].map { GUID($0) ?? .zero }

    let sector: UInt64
    /// The unit of starts: the sector, an old track of 63, 1 MiB.
    let grain: UInt64
    let mostByteCount: UInt64
    /// The unit of lengths: whole MiB meet the boundaries exactly.
    let lengthGrain: UInt64
    var end: UInt64
    var partitions: [Partition] = []

    init(sector: UInt64, head: UInt64, using random: inout SeededGenerator) {
        self.sector = sector
        grain = [sector, 63 * sector, 1 << 20, 1 << 20].randomElement(using: &random) ?? sector
        lengthGrain = [sector, sector, 1 << 20].randomElement(using: &random) ?? sector
        mostByteCount = [4 << 20, 400 << 20, 300 << 30].randomElement(using: &random) ?? 1 << 20
        end = head + .random(in: 0...20, using: &random) * (Bool.random(using: &random) ? sector : 2 << 20)
    }

    private func start(_ lead: UInt64) -> UInt64 { (end + lead + grain - 1) / grain * grain }

    private mutating func add(
        _ number: Int, _ lead: UInt64, _ entry: Partition.MBREntry?, using random: inout SeededGenerator
    ) {
        let start = start(lead)
        let length = UInt64.random(in: 1...mostByteCount / lengthGrain, using: &random) * lengthGrain
        partitions.append(
            Partition(
                number: number, range: start..<start + length,
                typeGUID: Self.types.randomElement(using: &random) ?? .zero, guid: .zero, mbr: entry))
        end = start + length
        skip(using: &random)
    }

    private mutating func skip(using random: inout SeededGenerator) {
        guard Int.random(in: 0..<3, using: &random) == 0 else { return }
        end += UInt64.random(in: 0...mostByteCount / sector, using: &random) * sector
    }

    mutating func addGPT(using random: inout SeededGenerator) {
        let most = Int.random(in: 0..<50, using: &random) == 0 ? 60 : 8
        for number in 1...Int.random(in: 1...most, using: &random) { add(number, 0, nil, using: &random) }
    }

    mutating func addMBR(using random: inout SeededGenerator) {
        let slots = Int.random(in: 1...4, using: &random)
        let extended = Int.random(in: 0...4, using: &random)
        for slot in 1...slots {
            guard slot == extended else {
                add(slot, 0, .init(role: .primary, type: 0x83), using: &random)
                continue
            }
            let start = start(0)
            end = start + sector
            for number in 5..<Int.random(in: 5...11, using: &random) {
                add(number, number == 5 ? 0 : sector, .init(role: .logical, type: 0x83), using: &random)
            }
            partitions.append(
                Partition(
                    number: slot, range: start..<end, typeGUID: .zero, guid: .zero,
                    mbr: .init(role: .extended, type: 0x0f)))
        }
    }
}
