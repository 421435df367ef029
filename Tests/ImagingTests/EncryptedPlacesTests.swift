// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageFiles
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// LUKS in a larger or smaller partition: allowed lengths, changes of the content, and commands for later.
@Suite struct EncryptedPlacesTests {
    private func disk(_ luks: FilesystemInfo) throws -> MadeUpDisk {
        var made = try MadeUpDisk(seed: 1)
        let index = try #require(made.header.manifest.regions.firstIndex { $0.partition == 1 })
        made.header.manifest.regions[index].filesystem = luks
        return made
    }

    private func luks(
        sectorSize: Int? = 4096, byteCount: UInt64? = 3 << 20, inner: FilesystemInfo.Kind? = nil
    ) -> FilesystemInfo {
        let inside = inner.map { kind in
            FilesystemInfo.InnerVolume(
                name: "luks", byteCount: 1 << 20,
                filesystem: FilesystemInfo(kind: kind, kindName: kind.rawValue, mapSource: .allocationStructures))
        }
        return FilesystemInfo(
            kind: .luks, kindName: "crypto_LUKS", byteCount: byteCount, sectorSize: sectorSize, mapSource: .whole,
            wholeReason: "it is encrypted", inner: inside.map { [$0] })
    }

    @Test func thePlaceGrowsByWholeSectorsOfItsOwn() throws {
        let made = try disk(luks())
        // An exact size that is no multiple of 4096.
        func plan(_ wished: UInt64, _ made: MadeUpDisk) throws -> RestorePlan {
            try RestorePlanner.plan(
                made.header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: 24 << 20),
                request: LayoutRequest(policy: .keep, wishes: [1: .size(wished)]))
        }
        let grown = try plan((4 << 20) + 2560, made)
        let place = try #require(grown.placements?.first { $0.number == 1 }?.to)
        #expect(place.byteCount == 4 << 20 && grown.items.first { $0.number == 1 }?.to == place)
        #expect(grown.encryptedGrowths.map(\.range) == [place])
        // LUKS with sectors of 512 bytes may have any length.
        let other = try plan((4 << 20) + 2560, try disk(luks(sectorSize: 512)))
        #expect(other.placements?.first { $0.number == 1 }?.to.byteCount == (4 << 20) + 2560)
        // A container with a fixed length keeps its partition's length, too.
        let fixed = try disk(luks(byteCount: nil)).plan(targetByteCount: 24 << 20, policy: .grow)
        #expect(fixed.placements?.first { $0.number == 1 }?.to.byteCount == 3 << 20)
        #expect(fixed.encryptedGrowths.isEmpty)
    }

    @Test func whatIsToBeDoneLater() throws {
        for (kind, command) in [
            (FilesystemInfo.Kind.ext4, "resize2fs NODE"), (.xfs, "xfs_growfs MOUNTPOINT"),
            (.lvm, "pvresize NODE, then lvextend --resizefs --extents +100%FREE GROUP/VOLUME"), (nil, nil),
        ] as [(FilesystemInfo.Kind?, String?)] {
            var plan = try disk(luks(inner: kind)).plan(targetByteCount: 24 << 20, policy: .grow)
            #expect(plan.encryptedNumbers == [1])
            let before = plan.warnings.count
            plan.leaveLocked([])
            #expect(plan.encryptedNumbers == [1] && plan.warnings.count == before)
            plan.leaveLocked([1])
            #expect(plan.encryptedNumbers.isEmpty && plan.items.allSatisfy { $0.volumes == nil })
            let notes = plan.warnings[before...]
            // A content that does not fill the volume would not grow with a key; an unknown content might.
            #expect(notes == [.locked(partition: 1, growCommand: command, growsWithKey: kind == nil)])
        }
        var fat = try disk(luks(inner: .fat32)).plan(targetByteCount: 24 << 20, policy: .grow)
        let before = fat.warnings
        fat.leaveLocked([1])
        #expect(fat.warnings == before)
        #expect(try disk(luks()).plan(targetByteCount: 12 << 20, policy: .grow).encryptedNumbers.isEmpty)
    }

    @Test func aSmallerDiskIsRefusedWithTheReason() throws {
        let made = try disk(luks())
        let error = #expect(throws: ImagingError.self) { try made.plan(targetByteCount: 5 << 20, policy: .grow) }
        #expect("\(try #require(error))".contains("captured without its key"), "\(String(describing: error))")
    }

    // MARK: with the key

    /// Keys are tried on the volume in the image, whatever precedes and follows it.
    @Test(.enabled(if: ChildProcess.canFind("cryptsetup"), "needs cryptsetup"), arguments: ["luks1", "luks2"])
    func keysAreTriedOnTheImage(type: String) throws {
        let scratch = try ScratchFolder()
        var paths: [String: FilePath] = [:]
        for (name, text) in [("right", "a key\n"), ("wrong", "a key"), ("volume", "")] {
            let path = scratch.path.appending(name)
            try Files.write(Array(text.utf8), to: path)
            paths[name] = path
        }
        let volume = try #require(paths["volume"]), right = try #require(paths["right"])
        let wrong = try #require(paths["wrong"])
        let file = try OwnedDescriptor.open(volume, .readWrite)
        try Files.resize(file.raw, volume.string, to: 3 << 20)
        let smallest = type == "luks2" ? ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m"] : []
        let made = try ChildProcess.run(
            ["cryptsetup", "luksFormat", "-q", "--type", type, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
                + smallest + ["--key-file", right.string, volume.string])
        try #require(made.succeeded, "\(made.lastWords)")
        var source = try disk(luks(sectorSize: 512))
        let region = try #require(source.header.manifest.regions.firstIndex { $0.partition == 1 })
        let start = Int(source.header.manifest.regions[region].range.lowerBound)
        source.header.maps[region] = .whole(byteCount: 3 << 20)
        source.header.manifest.regions[region].usedByteCount = 3 << 20
        var bytes = source.bytes
        bytes.replaceSubrange(
            start..<start + 3 << 20, with: try BlockDevice(opening: volume).readBytes(at: 0, count: 3 << 20))
        let image = scratch.path.appending("image")
        _ = try source.capture(to: image, source: MemoryDisk(bytes))
        let plan = try source.plan(targetByteCount: 24 << 20, policy: .grow)
        #expect(plan.encryptedNumbers == [1])
        for (keys, locked) in [([right], []), ([wrong], [1]), ([wrong, right], []), ([], [1])] as [([FilePath], [Int?])]
        {
            let file = try OwnedDescriptor.open(image, .readOnly)
            let reader = try ImageStreamReader(file.raw, name: image.string)
            #expect(try KeyTrial.locked(plan, in: reader, keyFiles: keys) == locked)
        }
    }

    private static let unit: UInt64 = 64 << 10

    /// A header of 256 KiB, then a group with 20 of 40 extents in use by an ext4 that needs at least 8.
    private func group() -> FilesystemInfo {
        let ext4 = FilesystemInfo(
            kind: .ext4, kindName: "ext4", byteCount: 20 * Self.unit, mapSource: .allocationStructures,
            leastByteCount: 8 * Self.unit)
        let inside = (3 << 20) - 256 << 10 as UInt64
        return FilesystemInfo(
            kind: .lvm, kindName: "LVM2_member", byteCount: inside, mapSource: .allocationStructures,
            leastByteCount: 640 << 10,
            inner: [.init(name: "vg/root", byteCount: 20 * Self.unit, filesystem: ext4)],
            volumeGroup: .init(
                name: "vg", id: "id", extentStart: 128 << 10, extentByteCount: Self.unit,
                extentCount: (inside - 128 << 10) / Self.unit))
    }

    private func opened(_ inner: FilesystemInfo) -> FilesystemInfo {
        FilesystemInfo(
            kind: .luks, kindName: "crypto_LUKS", byteCount: 3 << 20, sectorSize: 4096,
            mapSource: .allocationStructures,
            inner: [.init(name: "luks", byteCount: (3 << 20) - 256 << 10, filesystem: inner)])
    }

    private func plan(
        _ filesystem: FilesystemInfo, _ wished: UInt64, obstacles: ResizeObstacles = ResizeObstacles()
    ) throws -> RestorePlan {
        try RestorePlanner.plan(
            try disk(filesystem).header, onto: DiskIdentity(path: "target"),
            geometry: DiskGeometry(byteCount: 24 << 20),
            request: LayoutRequest(policy: .grow, wishes: [1: .size(wished)]), obstacles: obstacles)
    }

    /// Whether the plan has a warning that a volume keeps its size for this reason.
    private func keepsSize(_ plan: RestorePlan, _ words: String) -> Bool {
        plan.warnings.contains { warning in
            switch warning {
            case .keepsSizeInLUKS(_, let reason), .groupKeepsSize(_, let reason): reason.contains(words)
            default: false
            }
        }
    }

    @Test func whatIsInsideBecomesSmallerWithItsKey() throws {
        let ext4 = FilesystemInfo(
            kind: .ext4, kindName: "ext4", byteCount: (3 << 20) - 256 << 10, mapSource: .allocationStructures,
            leastByteCount: (1 << 20) + 512)
        #expect(EncryptedContents(opened(ext4))?.leastByteCount == (1 << 20) + 4096 + 256 << 10)
        let smaller = try plan(opened(ext4), 2 << 20)
        let shrink = try #require(smaller.shrinks.first)
        #expect(shrink.filesystem.kind == .luks && shrink.shrinking.map(\.kind) == [.ext4])
        #expect(shrink.needsComposite && shrink.range.byteCount == 2 << 20 && shrink.volumeByteCounts == nil)
        // The length is a multiple of the LUKS sector size.
        #expect(try plan(opened(ext4), (2 << 20) + 1536).shrinks.first?.range.byteCount == 2 << 20)
        let tooSmall = #expect(throws: ImagingError.self) { try plan(opened(ext4), 1 << 20) }
        #expect("\(try #require(tooSmall))".contains("are in use"), "\(String(describing: tooSmall))")
        let locked = #expect(throws: ImagingError.self) {
            try plan(opened(ext4), 2 << 20, obstacles: .init(encrypted: "its key was not given"))
        }
        #expect("\(try #require(locked))".contains("its key was not given"))
        // An inner filesystem that cannot shrink, and one that ends before its container.
        var (xfs, short) = (ext4, ext4)
        (xfs.kind, short.byteCount) = (.xfs, 1 << 20)
        for (inner, reason) in [
            (xfs, "inside of LUKS, XFS cannot be made smaller"), (short, "there may be data behind"),
        ] {
            let refusal = #expect(throws: ImagingError.self) { try plan(opened(inner), 2 << 20) }
            #expect("\(try #require(refusal))".contains(reason))
        }
    }

    @Test func aGroupInsideFollowsItsPlace() throws {
        let larger = try plan(opened(group()), 5 << 20)
        #expect(larger.growths.first?.volumeByteCounts == [52 * Self.unit])
        #expect(larger.items.first { $0.number == 1 }?.volumes?.map(\.name) == ["vg/root"])
        // 1 MiB less 384 KiB: 10 extents.
        let smaller = try plan(opened(group()), 1 << 20)
        #expect(smaller.shrinks.first?.volumeByteCounts == [10 * Self.unit])
        #expect(smaller.shrinks.first?.shrinking.map(\.kind) == [.ext4])
        #expect(smaller.items.first { $0.number == 1 }?.volumes?.first?.toByteCount == 10 * Self.unit)
        // Without the key, or without LVM, LUKS grows and the group keeps its size.
        for obstacles in [
            ResizeObstacles(encrypted: "no key"), ResizeObstacles(volumeGroup: { "\($0.name) is active" }),
        ] {
            let kept = try plan(opened(group()), 5 << 20, obstacles: obstacles)
            #expect(kept.growths.count == 1 && kept.growths.first?.volumeByteCounts == nil)
            #expect(throws: ImagingError.self) { try plan(opened(group()), 1 << 20, obstacles: obstacles) }
        }
        // Possible data after the end of the physical volume is kept.
        var short = group()
        short.byteCount = 2 << 20
        let left = try plan(opened(short), 5 << 20)
        #expect(left.growths.first?.volumeByteCounts == nil && left.items.first { $0.number == 1 }?.volumes == nil)
        #expect(keepsSize(left, "there may be data behind the end"), "\(left.warnings)")
        var striped = group()
        striped.volumeGroup?.resizeObstacle = "it is striped"
        let kept = try plan(opened(striped), 5 << 20)
        #expect(kept.growths.first?.volumeByteCounts == nil && keepsSize(kept, "it is striped"))
        let refusal = #expect(throws: ImagingError.self) { try plan(opened(striped), 1 << 20) }
        #expect("\(try #require(refusal))".contains("it is striped"))
    }
}
