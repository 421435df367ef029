// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import FoundationEssentials
import Testing

@testable import DiskModel

/// A disk of partitions given in MiB, for the tests of layouts.
struct MadeUpLayout {
    static let mebibyte: UInt64 = 1 << 20

    var table: PartitionTable
    var source: DiskGeometry
    var filesystems: [Int: FilesystemInfo] = [:]
    var abilities: [Int: PartitionAbility] = [:]

    /// A GPT of consecutive Linux partitions, from 1 MiB on.
    init(_ mebibytes: [UInt64], disk: UInt64) {
        var position = Self.mebibyte
        var partitions: [Partition] = []
        for (index, length) in mebibytes.enumerated() {
            let range = position..<position + length * Self.mebibyte
            position = range.upperBound
            partitions.append(
                Partition(
                    number: index + 1, range: range, typeGUID: GUID(PartitionType.linuxFilesystem) ?? .zero,
                    guid: .random()))
        }
        let end = disk * Self.mebibyte
        table = PartitionTable(kind: .gpt, usable: 34 * 512..<end - 33 * 512, entryCount: 128, partitions: partitions)
        source = DiskGeometry(byteCount: end)
    }

    /// An MBR of (number, role, start, length) in sectors of 512 bytes.
    init(mbr entries: [(Int, Partition.MBREntry.Role, UInt64, UInt64)], sectors: UInt64) {
        let partitions = entries.map { number, role, start, length in
            Partition(
                number: number, range: start * 512..<(start + length) * 512, typeGUID: .zero, guid: .zero,
                mbr: .init(role: role, type: 0x83))
        }
        table = PartitionTable(kind: .mbr, usable: 512..<sectors * 512, entryCount: 4, partitions: partitions)
        source = DiskGeometry(byteCount: sectors * 512)
    }

    /// The layout's ranges by number, in `unit` bytes; the remarks.
    func plan(
        _ target: DiskGeometry, _ policy: LayoutPolicy, _ wishes: [String] = [], unit: UInt64 = mebibyte
    ) throws -> (ranges: [Int: Range<UInt64>], remarks: [LayoutRemark]) {
        let request = try LayoutRequest(policy: policy, parsing: wishes)
        let layout = try LayoutPlanner.plan(
            table, source: source, filesystems: filesystems, abilities: abilities, target: target, request: request)
        let ranges = layout.placements.map { ($0.number, $0.to.lowerBound / unit..<$0.to.upperBound / unit) }
        return (Dictionary(uniqueKeysWithValues: ranges), layout.remarks)
    }

    func plan(
        mebibytes: UInt64, _ policy: LayoutPolicy, _ wishes: [String] = []
    ) throws -> (ranges: [Int: Range<UInt64>], remarks: [LayoutRemark]) {
        try plan(DiskGeometry(byteCount: mebibytes * Self.mebibyte), policy, wishes)
    }

    /// The message of the refusal; a recorded issue where there is none.
    func refusal(mebibytes: UInt64, _ policy: LayoutPolicy, _ wishes: [String] = []) -> String {
        do {
            let layout = try plan(mebibytes: mebibytes, policy, wishes)
            Issue.record("not refused: \(layout)")
            return ""
        } catch { return "\(error)" }
    }
}

@Suite struct LayoutRequestTests {
    @Test func wishesAreRead() throws {
        let request = try LayoutRequest(
            policy: .keep, parsing: ["3=40GiB", "2=keep", "4=rest", "5=drop", "6=512M", "7=1000", "3=40G"])
        #expect(
            request.wishes == [
                2: .keep, 3: .size(40 << 30), 4: .rest, 5: .drop, 6: .size(512 << 20), 7: .size(1000),
            ])
        #expect(request.wishes[3]?.description == "40GiB" && request.wishes[7]?.description == "1000")
    }

    @Test func requestsAreStoredAsTheyAreTyped() throws {
        let request = try LayoutRequest(policy: .proportional, parsing: ["3=40GiB", "2=keep", "4=rest", "5=1000"])
        #expect(try JSONDecoder().decode(LayoutRequest.self, from: JSONEncoder().encode(request)) == request)
        let text = #"{"policy": "keep", "wishes": {"3": "40G", "5": "drop"}}"#
        #expect(
            try JSONDecoder().decode(LayoutRequest.self, from: Data(text.utf8))
                == LayoutRequest(policy: .keep, wishes: [3: .size(40 << 30), 5: .drop]))
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(LayoutRequest.self, from: Data(#"{"policy": "keep", "wishes": {"3": "x"}}"#.utf8))
        }
    }

    @Test(arguments: [
        ("3", "3=40GiB, 2=keep"), ("=keep", "number"), ("0=keep", "number"), ("-1=keep", "number"),
        ("+1=keep", "number"), ("a=keep", "number"), ("99999999999999999999=keep", "number"), ("3=", "neither a size"),
        ("3=Keep", "neither a size"), ("3=40 GiB", "neither a size"), ("3=-4G", "neither a size"),
        ("3=4.5G", "neither a size"), ("3=99999999T", "neither a size"), ("3=0", "0 bytes"), ("3=0G", "0 bytes"),
        ("3=4=5", "neither a size"), ("2=drop", "cannot be both keep and drop"),
    ]) func nonsenseIsRefused(text: String, reason: String) throws {
        do {
            _ = try LayoutRequest(parsing: ["2=keep", text])
            Issue.record("\(text) was taken")
        } catch { #expect(error.description.contains(reason), "\(error)") }
    }

    @Test func numbersAndRolesAreChecked() {
        var disk = MadeUpLayout([10, 20, 30], disk: 64)
        disk.abilities[2] = PartitionAbility(leastByteCount: 12 << 20, canShrink: true, reason: "12 MiB are in use")
        for (wishes, reason) in [
            (["9=keep"], "the image has no partition 9; it has 1, 2, 3"),
            (["1=rest", "3=rest"], "the partitions 1 and 3 cannot both take the rest"),
            (["1=drop", "2=drop", "3=drop"], "nothing would be restored"),
            (["1=5M"], "partition 1 (Linux filesystem, 10 MiB) cannot be made smaller"),
            (["2=11M"], "needs at least 12 MiB: 12 MiB are in use (11 MiB were asked for"),
        ] { #expect(disk.refusal(mebibytes: 64, .grow, wishes).contains(reason), "\(wishes)") }
    }

    @Test func sizesAreMetAndTheRestIsTaken() throws {
        var disk = MadeUpLayout([10, 20, 30], disk: 64)
        disk.abilities[2] = PartitionAbility(leastByteCount: 12 << 20, canGrow: true, canShrink: true)
        let sized = try disk.plan(mebibytes: 64, .keep, ["2=15M"])
        #expect(sized.ranges == [1: 1..<11, 2: 11..<26, 3: 31..<61])
        let rest = try disk.plan(mebibytes: 128, .grow, ["3=40M", "2=rest"])
        #expect(rest.ranges == [1: 1..<11, 2: 11..<87, 3: 87..<127])
        // Nothing is known of partition 3: it gets larger, and its content stays.
        #expect(rest.remarks == [.contentKeepsSize(partition: 3, holding: "Linux filesystem")])
        let dropped = try disk.plan(mebibytes: 64, .grow, ["3=drop"])
        #expect(dropped.ranges == [1: 1..<11, 2: 11..<63])
        // The remaining room is less than it had.
        let less = try disk.plan(mebibytes: 56, .keep, ["2=rest"])
        #expect(less.ranges == [1: 1..<11, 2: 11..<25, 3: 25..<55])
        // A byte is rounded up to a sector.
        let odd = try disk.plan(DiskGeometry(byteCount: 64 << 20), .keep, ["2=13000001"], unit: 512)
        #expect(odd.ranges[2]?.count == 25391)
    }

    @Test func aSizeThatDoesNotFitNamesTheMost() throws {
        let disk = MadeUpLayout([10, 20, 30], disk: 64)
        let refusal = disk.refusal(mebibytes: 64, .grow, ["2=30M"])
        #expect(refusal.contains("partition 2 can have at most 23068672 bytes (22 MiB)"), "\(refusal)")
        #expect(refusal.contains("the target would need \(71 << 20 + 33 * 512) bytes"), "\(refusal)")
    }
}
