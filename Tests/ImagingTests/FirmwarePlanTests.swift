// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Restores that make a disk start by the other firmware.
@Suite struct FirmwarePlanTests {
    private static let mebibyte: UInt64 = 1 << 20

    /// The header of a disk with ext4 partitions, as if GRUB started it.
    private func header(
        _ partitions: [Partition], kind: PartitionTable.Kind, byteCount: UInt64,
        boot: BootSurvey? = nil, least: UInt64? = nil
    ) -> ImageHeader {
        let isMBR = kind == .mbr
        let sorted = partitions.sorted { $0.range.lowerBound < $1.range.lowerBound }
        let table = PartitionTable(
            kind: kind, diskGUID: isMBR ? nil : GUID("5eed0000-0000-4000-8000-000000000000"),
            diskSignature: isMBR ? 0x5EED_0001 : nil,
            usable: isMBR ? 512..<byteCount : Self.mebibyte..<byteCount - 33 * 512, entryCount: isMBR ? 4 : 128,
            partitions: partitions.sorted { $0.number < $1.number })
        let survey = DiskSurvey(
            identity: DiskIdentity(path: "source", serial: "S"), geometry: DiskGeometry(byteCount: byteCount),
            table: table,
            volumes: sorted.filter(\.isVolume).map { partition in
                let isSwap = partition.typeGUID.description == PartitionType.linuxSwap
                let isESP = partition.typeGUID.description == PartitionType.efiSystem
                let length = partition.range.byteCount
                return VolumeSurvey(
                    range: partition.range, partition: partition,
                    filesystem: FilesystemInfo(
                        kind: isSwap ? .swap : isESP ? .fat32 : .ext4,
                        kindName: isSwap ? "swap" : isESP ? "vfat" : "ext4",
                        byteCount: length, blockSize: 4096, sectorSize: isESP ? 512 : nil,
                        mapSource: .allocationStructures, leastByteCount: isSwap || isESP ? nil : least),
                    allocation: AllocationMap(byteCount: length, unsorted: [0..<min(length, 65536)]))
            },
            boot: boot
                ?? (isMBR
                    ? BootSurvey(biosBootCode: "GRUB", biosCoreImageFound: true)
                    : BootSurvey(efiLoaders: [#"\EFI\debian\grubx64.efi"#])))
        let head = [UInt8](repeating: 0, count: 512)
        return CapturePlanner.plan(
            survey,
            tableBytes: CapturedTable(head: head, tail: [], byteCount: byteCount, sectorSize: 512),
            options: CaptureOptions(chunkByteCount: 64 << 10),
            machine: MachineFacts(architecture: "x86_64", firmware: isMBR ? "bios" : "uefi"), mounted: [],
            toolVersion: "test", started: "2026-01-01T00:00:00Z", localOffsetSeconds: 0
        ).header
    }

    private func partition(
        _ number: Int, _ range: ByteRange, _ role: Partition.MBREntry.Role?,
        type: String = PartitionType.linuxFilesystem
    ) -> Partition {
        Partition(
            number: number, range: range, typeGUID: role == .extended ? .zero : GUID(type) ?? .zero,
            guid: role == nil ? GUID("5eed000\(number)-0000-4000-8000-000000000000") ?? .zero : .zero,
            mbr: role.map { .init(role: $0, type: $0 == .extended ? 5 : 0x83) })
    }

    private func plan(
        _ header: ImageHeader, _ byteCount: UInt64, _ goal: TableConversion.Goal, isRequired: Bool = true,
        policy: LayoutPolicy = .grow, wishes: [Int: PartitionWish] = [:], sectorSize: Int = 512
    ) throws(ImagingError) -> RestorePlan {
        try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"),
            geometry: DiskGeometry(byteCount: byteCount, logicalSectorSize: sectorSize, physicalSectorSize: sectorSize),
            request: LayoutRequest(policy: policy, wishes: wishes),
            firmware: FirmwareRequest(goal, isRequired: isRequired))
    }

    // MARK: MBR to GPT

    /// A random MBR with logical partitions, in MiB.
    private func randomMBR(_ random: inout SeededGenerator) -> (partitions: [Partition], end: UInt64) {
        var partitions: [Partition] = []
        var end: UInt64 = 1
        func range() -> ByteRange {
            let start = end + (Int.random(in: 0..<4, using: &random) == 0 ? .random(in: 1...300, using: &random) : 0)
            end = start + .random(in: 8...400, using: &random)
            return start * Self.mebibyte..<end * Self.mebibyte
        }
        for number in 1...Int.random(in: 1...3, using: &random) {
            partitions.append(partition(number, range(), .primary))
        }
        let start = end
        var logicals: [Partition] = []
        for number in 5..<5 + Int.random(in: 1...5, using: &random) {
            end += 1
            logicals.append(
                partition(
                    number, range(), .logical,
                    type: Bool.random(using: &random) ? PartitionType.linuxSwap : PartitionType.linuxFilesystem))
        }
        partitions.append(partition(4, start * Self.mebibyte..<end * Self.mebibyte, .extended))
        return (partitions + logicals, end * Self.mebibyte)
    }

    @Test func randomMBRsBecomeGPTs() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        var (planned, refused) = (0, 0)
        for index in 0..<(Sample.isFull ? 3000 : 200) {
            let (partitions, end) = randomMBR(&random)
            let slack: UInt64 = [0, 34 * 512, 40, 300, 3000].randomElement(using: &random) ?? 0
            let source = end + (slack < 10_000 ? slack * Self.mebibyte : slack)
            let least: UInt64? = Bool.random(using: &random) ? 4 * Self.mebibyte : nil
            let header = header(partitions, kind: .mbr, byteCount: source, least: least)
            let isSame = Bool.random(using: &random)
            let target = isSame ? source : source + UInt64.random(in: 0...600, using: &random) * Self.mebibyte
            let policy = LayoutPolicy.allCases.randomElement(using: &random) ?? .grow
            let comment: Comment = "seed \(seed), case \(index): \(partitions.map(\.range)) of \(source) onto \(target)"
            let plan: RestorePlan
            do { plan = try self.plan(header, target, .uefi, policy: policy) } catch {
                refused += 1
                #expect("\(error)".contains("--layout") || "\(error)".contains("too small"), "\(error) \(comment)")
                // The kept table still fits: the room for the loader alone is missing.
                _ = try RestorePlanner.plan(
                    header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: target),
                    request: LayoutRequest(policy: policy))
                continue
            }
            planned += 1
            let conversion = try #require(plan.conversion, comment)
            let added = try #require(conversion.added, comment)
            let places = (plan.placements ?? []).sorted { $0.to.lowerBound < $1.to.lowerBound }
            #expect(
                Set(places.map(\.number)) == Set(partitions.filter(\.isVolume).map(\.number) + [added.number]), comment)
            #expect(places.first { $0.number == added.number }?.to == added.range, comment)
            #expect(added.range.byteCount >= 34 * Self.mebibyte && added.range.lowerBound % Self.mebibyte == 0, comment)
            for (first, second) in zip(places, places.dropFirst()) {
                #expect(first.to.upperBound <= second.to.lowerBound, comment)
            }
            #expect(
                places.allSatisfy { $0.to.lowerBound >= 34 * 512 && $0.to.upperBound <= target - 33 * 512 }, comment)
            // Enough room behind the last partition: nothing moves.
            if target >= end + 300 * Self.mebibyte, policy == .keep {
                #expect(places.allSatisfy { $0.from == $0.to }, comment)
            }
            if policy == .keep { #expect(places.allSatisfy { !$0.isShrunk && !$0.isGrown }, comment) }
            #expect(Set(conversion.entries.values.map(\.guid)).count == conversion.entries.count, comment)
            #expect(try plan.digest() == self.plan(header, target, .uefi, policy: policy).digest(), comment)
            // Boot code, core.img and boot records are replaced, everything else is restored.
            for (region, destination) in zip(header.manifest.regions, plan.destinations) where region.partition != nil {
                #expect(destination != RestorePlan.Destination.skipped, comment)
            }
            #expect(plan.destinations.first == RestorePlan.Destination.skipped, comment)
        }
        print("conversions: seed \(seed), \(planned) planned, \(refused) refused")
        #expect(planned > 50 && refused > 5)
    }

    /// From the image to the disk, in memory: the data, the table, the new FAT; block 0 last.
    @Test func anMBRIsRestoredAsGPT() throws {
        let disk = try MadeUpDisk(seed: 8, table: MadeUpDisk.mbr)
        var made = disk
        made.header.manifest.boot = BootSurvey(biosBootCode: "GRUB", biosCoreImageFound: true)
        for index in made.header.manifest.regions.indices where made.header.manifest.regions[index].partition == 1 {
            made.header.manifest.regions[index].filesystem = FilesystemInfo(
                kind: .ext4, kindName: "ext4", byteCount: 4096 * 512, blockSize: 4096, mapSource: .allocationStructures)
        }
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        _ = try made.capture(to: image)
        let byteCount = 50 << 20
        let plan = try RestorePlanner.plan(
            made.header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: UInt64(byteCount)),
            request: LayoutRequest(policy: .keep), firmware: FirmwareRequest(.uefi, isRequired: true))
        let target = MemoryDisk([UInt8](repeating: 0xDB, count: byteCount))
        let (executor, outcome) = try restore(image, onto: target, plan: plan, options: .init(verify: true))
        #expect(executor.state == .complete && outcome.warnings.isEmpty)
        let before = target.bytes
        for (region, map) in zip(made.header.manifest.regions, made.header.maps) where region.partition != nil {
            for range in map.ranges {
                let place =
                    Int(
                        region.range.lowerBound + range.lowerBound)..<Int(
                        region.range.lowerBound + range.upperBound)
                #expect(before[place] == made.bytes[place])
            }
        }
        let table = try PartitionTableReader.read(target)
        #expect(table.kind == .gpt && table.condition == .intact && table.partitions.map(\.number) == [1, 5, 6, 7])
        #expect(
            table.partitions.prefix(3).map(\.range)
                == [1, 5, 6].map { number in
                    made.header.manifest.table.partitions.first { $0.number == number }?.range ?? 0..<0
                })
        let esp = try #require(table.partitions.last)
        #expect(esp.typeGUID.description == PartitionType.efiSystem)
        let slice = try #require(BlockSlice(target, range: esp.range))
        #expect(try FATVolume(slice).entries(in: "/").isEmpty)
        // No boot code is left that looks for core.img.
        #expect(before[..<440].allSatisfy { $0 == 0 })
        // Before the last write of block 0 there is no table.
        let writes = target.log.compactMap { effect -> UInt64? in
            if case .write(let offset, _) = effect { offset } else { nil }
        }
        #expect(writes.last == 0)
        // The same restore again resumes, and ends the same.
        _ = try restore(image, onto: target, plan: plan)
        #expect(target.bytes == before)
    }

    @Test func aFullDiskIsRefusedWithWhatHelps() throws {
        let end = 1000 * Self.mebibyte
        let partitions = [partition(1, Self.mebibyte..<end, .primary)]
        let full = header(partitions, kind: .mbr, byteCount: end)
        let error = #expect(throws: ImagingError.self) { try plan(full, end, .uefi) }
        let text = "\(error.map { "\($0)" } ?? "")"
        #expect(text.contains("too small"), "\(text)")
        // Where a filesystem can shrink, it does; not with the sizes as captured.
        let roomy = header(partitions, kind: .mbr, byteCount: end, least: 100 * Self.mebibyte)
        let made = try plan(roomy, end, .uefi)
        #expect(made.shrinks.map(\.number) == [1] && made.conversion?.added?.number == 2)
        let kept = #expect(throws: ImagingError.self) { try plan(roomy, end, .uefi, policy: .keep) }
        #expect("\(kept.map { "\($0)" } ?? "")".contains("too small"))
        // Room for the backup table alone: the loader's partition is what is missing.
        let tight = end + Self.mebibyte
        let missing = #expect(throws: ImagingError.self) { try plan(full, tight, .uefi) }
        let reason = "\(missing.map { "\($0)" } ?? "")"
        for word in ["EFI system partition", "--partition", "larger disk", "--layout grow", "--firmware keep"] {
            #expect(reason.contains(word), "\(word): \(reason)")
        }
    }

    @Test func freeSpaceIsUsedBeforeAnythingMoves() throws {
        let partitions = [
            partition(1, Self.mebibyte..<500 * Self.mebibyte, .primary),
            partition(2, 560 * Self.mebibyte..<1000 * Self.mebibyte, .primary),
        ]
        let made = try plan(
            header(partitions, kind: .mbr, byteCount: 1001 * Self.mebibyte), 1001 * Self.mebibyte, .uefi)
        #expect(made.conversion?.added?.range == 500 * Self.mebibyte..<560 * Self.mebibyte)
        #expect(made.placements?.allSatisfy { $0.from == $0.to } == true)
    }

    /// A target with sectors of 4096 bytes, from which no MBR starts.
    @Test func largerSectorsAreNoObstacle() throws {
        let partitions = [
            partition(1, Self.mebibyte..<500 * Self.mebibyte, .primary),
            partition(4, 500 * Self.mebibyte..<900 * Self.mebibyte, .extended),
            partition(5, 501 * Self.mebibyte..<900 * Self.mebibyte, .logical),
        ]
        let source = header(partitions, kind: .mbr, byteCount: 900 * Self.mebibyte)
        #expect(throws: ImagingError.self) {
            try RestorePlanner.plan(
                source, onto: DiskIdentity(path: "target"),
                geometry: DiskGeometry(byteCount: 2000 * Self.mebibyte, logicalSectorSize: 4096),
                request: LayoutRequest())
        }
        let made = try plan(source, 2000 * Self.mebibyte, .uefi, sectorSize: 4096)
        try made.checkTable(source)
        #expect((made.conversion?.added?.range.byteCount ?? 0) >= 260 * Self.mebibyte)
    }

    // MARK: the partition for core.img

    private func uefiDisk(first: UInt64 = mebibyte) -> [Partition] {
        [
            partition(1, first..<100 * Self.mebibyte, nil, type: PartitionType.efiSystem),
            partition(2, 100 * Self.mebibyte..<1000 * Self.mebibyte, nil),
        ]
    }

    @Test func coreImageGoesInFrontOfTheFirstMebibyte() throws {
        let source = header(uefiDisk(), kind: .gpt, byteCount: 1001 * Self.mebibyte)
        let made = try plan(source, 1001 * Self.mebibyte, .bios)
        let added = try #require(made.conversion?.added)
        #expect(added.number == 3 && added.range == 80 * 512..<Self.mebibyte)
        #expect(added.typeGUID.description == PartitionType.biosBoot && made.conversion?.replacesMBR == false)
        #expect(made.placements?.allSatisfy { $0.from == $0.to } == true)
        #expect(!made.tableIsUnchanged && !made.warnings.contains { $0.code == "gap-left-out" })
        // The record of a job still has its place before it.
        #expect(
            RestoreNote.place(
                in: [UInt8](repeating: 0, count: 1 << 20), tableEnd: 34 * 512, firstPartition: added.range.lowerBound)
                != nil)
    }

    @Test func withoutThatGapItGoesBehind() throws {
        let source = header(uefiDisk(first: 40 * 512), kind: .gpt, byteCount: 1001 * Self.mebibyte)
        let made = try plan(source, 1003 * Self.mebibyte, .bios, policy: .keep)
        #expect(made.conversion?.added?.range == 1000 * Self.mebibyte..<1001 * Self.mebibyte)
        let error = #expect(throws: ImagingError.self) { try plan(source, 1001 * Self.mebibyte, .bios, policy: .keep) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("BIOS boot partition"))
        #expect(throws: ImagingError.self) { try plan(source, 1003 * Self.mebibyte, .bios, sectorSize: 4096) }
    }

    // MARK: what stays

    @Test func whatCannotBeConvertedStaysOrIsRefused() throws {
        let end = 1000 * Self.mebibyte
        let mbr = [partition(1, Self.mebibyte..<end - 300 * Self.mebibyte, .primary)]
        var windows = header(mbr, kind: .mbr, byteCount: end)
        for index in windows.manifest.regions.indices where windows.manifest.regions[index].partition == 1 {
            windows.manifest.regions[index].filesystem?.kind = .ntfs
            windows.manifest.regions[index].filesystem?.kindName = "ntfs"
        }
        var odd = header(mbr, kind: .mbr, byteCount: end)
        odd.manifest.table.partitions[0].typeGUID = .zero
        let cases: [(ImageHeader, TableConversion.Goal, String)] = [
            (windows, .uefi, "Windows"),
            (
                header(
                    uefiDisk(), kind: .gpt, byteCount: end + Self.mebibyte,
                    boot: BootSurvey(efiLoaders: [#"\EFI\Microsoft\Boot\bootmgfw.efi"#, #"\EFI\debian\grubx64.efi"#])),
                .bios, "Windows"
            ),
            (
                header(
                    uefiDisk(), kind: .gpt, byteCount: end + Self.mebibyte,
                    boot: BootSurvey(efiLoaders: [#"\EFI\systemd\systemd-bootx64.efi"#])), .bios, "another loader"
            ),
            (header(mbr, kind: .mbr, byteCount: end, boot: BootSurvey(biosBootCode: "other")), .uefi, "another loader"),
            (odd, .uefi, "a type that a GPT does not know"),
        ]
        for (source, goal, reason) in cases {
            let byteCount = source.manifest.geometry.byteCount
            let error = #expect(throws: ImagingError.self) { try plan(source, byteCount, goal) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(reason), "\(error.map { "\($0)" } ?? "")")
            let kept = try plan(source, byteCount, goal, isRequired: false)
            #expect(kept.conversion == nil && kept.tableIsUnchanged, "\(reason)")
            #expect(kept.warnings.contains { $0.code == "firmware-stays" }, "\(reason)")
        }
    }

    /// A disk that starts by that firmware already, and a data disk.
    @Test func nothingIsConvertedForNothing() throws {
        let end = 1000 * Self.mebibyte
        let mbr = [partition(1, Self.mebibyte..<end - 300 * Self.mebibyte, .primary)]
        let source = header(mbr, kind: .mbr, byteCount: end)
        let usual = try RestorePlanner.plan(
            source, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: end), request: LayoutRequest()
        )
        for isRequired in [true, false] {
            let made = try plan(source, end, .bios, isRequired: isRequired)
            #expect(made == usual && made.conversion == nil)
            #expect(try made.digest() == usual.digest())
        }
        let data = header(mbr, kind: .mbr, byteCount: end, boot: BootSurvey())
        #expect(try plan(data, end, .uefi, isRequired: false).warnings.isEmpty)
        #expect(throws: ImagingError.self) { try plan(data, end, .uefi) }
    }
}
