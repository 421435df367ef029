// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Remains of an earlier filesystem in the unused ranges of a target.
@Suite struct OlderLifeTests {
    private static let pattern: UInt8 = 0xA5
    private let seed = Sample.seed()

    /// A made-up disk whose partition `number` holds `filesystem`.
    private func disk(_ filesystem: FilesystemInfo, number: Int = 1) throws -> MadeUpDisk {
        var made = try MadeUpDisk(seed: seed)
        let index = try #require(made.header.manifest.regions.firstIndex { $0.partition == number })
        made.header.manifest.regions[index].filesystem = filesystem
        return made
    }

    private func patterned(_ byteCount: Int = MadeUpDisk.byteCount) -> MemoryDisk {
        MemoryDisk([UInt8](repeating: Self.pattern, count: byteCount))
    }

    /// The unused bytes of partition 1 between its first and last MiB, and those of them that are zero after a restore.
    private func cleared(
        _ filesystem: FilesystemInfo, options: RestoreExecutor.Options = .init()
    ) throws -> (cleared: AllocationMap, unused: AllocationMap, disk: MemoryDisk) {
        let made = try disk(filesystem)
        let scratch = try ScratchFolder()
        let image = scratch.path.appending("image")
        _ = try made.capture(to: image)
        let target = patterned()
        _ = try restore(
            image, onto: target, plan: try made.plan(targetByteCount: MadeUpDisk.byteCount), options: options)
        let index = try #require(made.header.manifest.regions.firstIndex { $0.partition == 1 })
        let range = made.header.manifest.regions[index].range
        let bytes = target.bytes
        let middle = MadeUpDisk.mebibyte..<range.byteCount - MadeUpDisk.mebibyte
        var (zero, unused) = (AllocationMap(byteCount: range.byteCount), AllocationMap(byteCount: range.byteCount))
        for part in made.header.maps[index].complement.ranges(in: middle) {
            unused.insert(part)
            // Compared in runs: an expectation per byte, or a difference of maps in its report, takes minutes.
            let content = bytes[Int(range.lowerBound + part.lowerBound)..<Int(range.lowerBound + part.upperBound)]
            let isKnown = content.allSatisfy { $0 == 0 || $0 == Self.pattern }
            #expect(isKnown)
            var start = content.startIndex
            while start < content.endIndex {
                let end = content[start...].firstIndex { ($0 == 0) != (content[start] == 0) } ?? content.endIndex
                if content[start] == 0 {
                    zero.insert(UInt64(start) - range.lowerBound..<UInt64(end) - range.lowerBound)
                }
                start = end
            }
        }
        #expect(!unused.ranges.isEmpty, "seed \(seed)")
        return (zero, unused, target)
    }

    /// Unused ranges are cleared for F2FS and XFS, and kept for all other kinds.
    @Test(arguments: [
        FilesystemInfo.Kind.f2fs, .xfs, .ext4, .btrfs, .ntfs, .fat32, .exfat, .swap, .lvm, .luks, .raid, .other,
    ])
    func unusedRangesAreCleared(_ kind: FilesystemInfo.Kind) throws {
        let info = FilesystemInfo(kind: kind, kindName: kind.rawValue, mapSource: .allocationStructures)
        let (cleared, unused, _) = try cleared(info)
        let isRight =
            cleared == ([.f2fs, .xfs].contains(kind) ? unused : AllocationMap(byteCount: unused.byteCount))
        #expect(isRight, "seed \(seed)")
    }

    @Test(arguments: [
        RestoreExecutor.Options(discard: true), .init(delta: true), .init(verify: true, delta: true),
    ])
    func inEveryWayOfRestoring(_ options: RestoreExecutor.Options) throws {
        let info = FilesystemInfo(kind: .f2fs, kindName: "f2fs", mapSource: .allocationStructures)
        let (cleared, unused, _) = try cleared(info, options: options)
        let isRight = cleared == unused
        #expect(isRight, "seed \(seed)")
    }

    /// For a volume inside a container, only the volume's own ranges are cleared.
    @Test(arguments: [
        (FilesystemInfo.Kind.lvm, FilesystemInfo.Kind.f2fs), (.luks, .xfs), (.raid, .xfs), (.lvm, .ext4),
    ])
    func volumesInsideAreCleared(_ container: FilesystemInfo.Kind, _ inner: FilesystemInfo.Kind) throws {
        let places = [1_400_000..<1_600_000, 1_100_000..<1_200_000] as [ByteRange]
        var info = FilesystemInfo(kind: container, kindName: container.rawValue, mapSource: .allocationStructures)
        info.inner = [
            .init(
                name: "vg/one", byteCount: 300_000,
                filesystem: FilesystemInfo(
                    kind: inner, kindName: inner.rawValue, mapSource: .allocationStructures), places: places)
        ]
        var (cleared, unused, _) = try cleared(info)
        let expected = AllocationMap(
            byteCount: unused.byteCount,
            unsorted: inner == .ext4 ? [] : places.flatMap { place in unused.ranges(in: place) })
        let isRight = cleared == expected
        #expect(isRight, "seed \(seed)")
        // With unknown ranges of the volume, all unused ranges are cleared.
        info.inner?[0].places = nil
        (cleared, unused, _) = try self.cleared(info)
        let isRightWithoutPlaces =
            cleared == (inner == .ext4 ? AllocationMap(byteCount: unused.byteCount) : unused)
        #expect(isRightWithoutPlaces, "seed \(seed)")
    }

    /// All clearing precedes the commit.
    @Test func theCommitComesLast() throws {
        let info = FilesystemInfo(kind: .f2fs, kindName: "f2fs", mapSource: .allocationStructures)
        let (_, _, disk) = try cleared(info)
        let effects = disk.log
        let range = MadeUpDisk.mebibyte..<4 * MadeUpDisk.mebibyte
        let lastClear = effects.lastIndex { effect in
            if case .zeros(let zeros) = effect { return range.overlaps(zeros) }
            return false
        }
        let commit = effects.lastIndex { effect in
            if case .write(0, _) = effect { return true }
            return false
        }
        #expect(try #require(lastClear) < (try #require(commit)))
    }

    @Test func everyKindSaysWhatItNeeds() {
        #expect(FilesystemTraits.of(.xfs, name: "xfs").olderLife == .newerLog)
        #expect(FilesystemTraits.of(.f2fs, name: "f2fs").olderLife == .cleared)
    }

    @Test func theCycleIsNewerThanAllThatIsKnown() {
        #expect(OlderLifeCure.cycle(image: 3, older: nil, unixSeconds: 0) == 4)
        #expect(OlderLifeCure.cycle(image: 3, older: 8, unixSeconds: 0) == 9)
        #expect(OlderLifeCure.cycle(image: 3, older: 8, unixSeconds: 1_577_836_800 + 100) == 400)
        #expect(OlderLifeCure.cycle(image: .max, older: nil, unixSeconds: 0) == .max)
        #expect(OlderLifeCure.cycle(image: 1, older: .max, unixSeconds: .max) == .max)
        #expect(OlderLifeCure.cycle(image: 1, older: 1, unixSeconds: .min) == 2)
    }

    @Test func aChangeWithoutProofKeepsTheCommitAway() throws {
        var changes = TargetChanges()
        try changes.change("one") { .passed }
        _ = try changes.proved()
        #expect(throws: ImagingError.self) { try changes.change("two") { .failed("it is damaged") } }
        #expect(throws: ImagingError.self) { _ = try changes.proved() }
        var others = TargetChanges()
        #expect(throws: MadeUpError.self) { try others.change("three") { throw MadeUpError(text: "") } }
        try others.change("four") { .passed }
        #expect(throws: ImagingError.self) { _ = try others.proved() }
    }
}
