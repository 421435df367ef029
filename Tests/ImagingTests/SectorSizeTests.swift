// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import Glibc
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging

/// Restores between disks of 512-byte and 4096-byte sectors, checked by other tools on loop devices.
@Suite(
    .enabled(
        if: geteuid() == 0 && ["sgdisk", "mkfs.fat", "mcopy", "mke2fs"].allSatisfy { ChildProcess.canFind($0) },
        "needs root, gdisk, dosfstools, mtools and e2fsprogs"))
struct SectorSizeTests {
    private static let mebibyte: UInt64 = 1 << 20

    /// A disk with an ESP, an ext4 and swap, and the files of the ESP.
    private struct SectoredDisk {
        var path: FilePath
        var sectorSize: Int
        var header: ImageHeader
        static let espByteCount = 40 * mebibyte
        static let rootByteCount = 60 * mebibyte
        static let byteCount = 120 * mebibyte
    }

    @discardableResult private func run(_ arguments: [String], input: String = "") throws -> String {
        let output = try ChildProcess.run(
            arguments, input: Array(input.utf8),
            environment: ChildProcess.plainEnvironment + ["MTOOLS_SKIP_CHECK=1"])
        try #require(output.succeeded, "\(arguments.joined(separator: " ")): \(output.lastWords)")
        return output.text
    }

    private func file(_ path: FilePath, _ byteCount: UInt64) throws {
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: byteCount)
    }

    private func makeDisk(_ scratch: ScratchFolder, sectorSize: Int, blockSize: Int = 4096) throws -> SectoredDisk {
        let path = scratch.path.appending("source")
        try file(path, SectoredDisk.byteCount)
        let unit = UInt64(sectorSize)
        let root = Self.mebibyte + SectoredDisk.espByteCount
        let script = """
            label: gpt
            label-id: 11111111-2222-3333-4444-555555555555
            start=\(Self.mebibyte / unit), size=\(SectoredDisk.espByteCount / unit), type=U, name="EFI system"
            start=\(root / unit), size=\(SectoredDisk.rootByteCount / unit), type=L, name="root", attrs="GUID:63"
            start=\((root + SectoredDisk.rootByteCount) / unit), size=\(8 * Self.mebibyte / unit), type=S, name="swap"

            """
        try {
            let loop = try LoopDevice(over: path, range: 0..<SectoredDisk.byteCount, sectorSize: sectorSize)
            try run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", loop.path.string], input: script)
        }()
        let text = scratch.path.appending("text")
        try file(text, 3_000_123)
        let noise = try BlockDevice(opening: text, .exclusiveWrite)
        try noise.writeBytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }, at: 2_900_000)
        let volume = scratch.path.appending("volume")
        try file(volume, SectoredDisk.espByteCount)
        try run([
            "mkfs.fat", "-F", sectorSize == 512 ? "32" : "16", "-S", "\(sectorSize)", "-i", "5EED0001", "-n", "ESP",
            "-h", "\(Self.mebibyte / unit)", "-s", "1", volume.string,
        ])
        try run(["mmd", "-i", volume.string, "::/EFI", "::/EFI/debian"])
        try run(["mcopy", "-i", volume.string, text.string, "::/EFI/debian/a loader.efi"])
        try copy(volume, to: path, at: Self.mebibyte)
        try Files.remove(volume)
        try file(volume, SectoredDisk.rootByteCount)
        let folder = scratch.path.appending("tree")
        try Files.makeFolders(folder)
        try run(["cp", text.string, folder.appending("file").string])
        try run(["mke2fs", "-q", "-t", "ext4", "-b", "\(blockSize)", "-d", folder.string, volume.string])
        try copy(volume, to: path, at: root)
        try Files.remove(volume)
        try file(volume, 8 * Self.mebibyte)
        try run(["mkswap", "-q", "-L", "swap", volume.string])
        try copy(volume, to: path, at: root + SectoredDisk.rootByteCount)
        return SectoredDisk(path: path, sectorSize: sectorSize, header: try header(path, sectorSize))
    }

    private func copy(_ from: FilePath, to: FilePath, at offset: UInt64) throws {
        try run([
            "dd", "if=\(from)", "of=\(to)", "bs=1M", "seek=\(offset / Self.mebibyte)", "conv=notrunc", "status=none",
        ])
    }

    private func header(_ path: FilePath, _ sectorSize: Int) throws -> ImageHeader {
        let disk = try BlockDevice(opening: path, sectorSize: sectorSize)
        let survey = try DiskSurveyor.survey(
            disk, identity: DiskIdentity(path: path.string), geometry: disk.geometry,
            descriptor: disk.fileDescriptor.rawValue)
        return CapturePlanner.plan(
            survey, tableBytes: try CapturedTable(reading: disk, table: survey.table),
            options: CaptureOptions(chunkByteCount: 1 << 20),
            machine: MachineFacts(architecture: "x86_64", firmware: "uefi"), mounted: [], toolVersion: "test",
            started: "2026-01-01T00:00:00Z", localOffsetSeconds: 0
        ).header
    }

    private func plan(
        _ header: ImageHeader, byteCount: UInt64, sectorSize: Int, wishes: [Int: PartitionWish] = [:],
        policy: LayoutPolicy = .grow, mustBoot: Bool = true, trustsUnknown: Bool = false
    ) throws -> RestorePlan {
        try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"),
            geometry: DiskGeometry(byteCount: byteCount, logicalSectorSize: sectorSize, physicalSectorSize: sectorSize),
            request: LayoutRequest(policy: policy, wishes: wishes), obstacles: .init(shrink: "nothing shrinks here"),
            mustBoot: mustBoot, trustsUnknown: trustsUnknown)
    }

    private func capture(_ sample: SectoredDisk, _ scratch: ScratchFolder) throws -> FilePath {
        let image = scratch.path.appending("image")
        let output = try ImageOutput(image, overwrite: true)
        let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: sample.header)
        _ = try CaptureExecutor(
            source: try BlockDevice(opening: sample.path, sectorSize: sample.sectorSize),
            plan: CapturePlan(header: sample.header), progress: Progress(), workers: 2
        ).run(writer)
        try output.commit()
        return image
    }

    /// Scratches of killed restores are removed, those of running ones are kept.
    @Test func scratchesOfKilledRestoresGo() throws {
        let folder = try ScratchFolder()
        let sample = try makeDisk(folder, sectorSize: 512)
        let made = try plan(sample.header, byteCount: 128 * Self.mebibyte, sectorSize: 4096)
        func leave(_ name: String) throws -> FilePath {
            let left = folder.path.appending("reforge-scratch.\(name)")
            try Files.makeFolders(left)
            try Files.write([1], to: left.appending("scratch"))
            return left
        }
        let (dead, alive) = (try leave("aaaaaa"), try leave("bbbbbb"))
        // Kept: a folder with another name, one with an additional file, and a link to another folder.
        let others = [try leave("old"), try leave("cccccc"), folder.path.appending("elsewhere")]
        try Files.write([1], to: others[1].appending("more"))
        try Files.makeFolders(others[2])
        try Files.write([1], to: others[2].appending("scratch"))
        try Files.makeLink(folder.path.appending("reforge-scratch.dddddd"), to: others[2].string)
        let lock = try FolderLock(alive, Cancellation())
        var scratch = try RestoreScratch(in: folder.path, for: made, chunkByteCount: 1 << 20)
        let own = try #require(scratch?.path.removingLastComponent())
        #expect(!Files.exists(dead) && Files.exists(alive.appending("scratch")) && Files.exists(own))
        #expect(others.allSatisfy { Files.exists($0.appending("scratch")) })
        // A second scratch in the folder does not remove the first.
        _ = try RestoreScratch(in: folder.path, for: made, chunkByteCount: 1 << 20)
        #expect(Files.exists(own.appending("scratch")))
        scratch = nil
        #expect(!Files.exists(own))
        lock.release()
    }

    /// Captured on one kind of disk, restored on the other: table, files of the ESP and root are complete.
    @Test(arguments: [(512, 128), (512, 512), (4096, 128)] as [(Int, UInt64)])
    func aSystemComesBackOntoTheOtherKind(from: Int, mebibytes: UInt64) throws {
        let scratch = try ScratchFolder()
        let sample = try makeDisk(scratch, sectorSize: from)
        let to = 4608 - from
        let image = try capture(sample, scratch)

        let targetByteCount = mebibytes * Self.mebibyte
        let made = try plan(sample.header, byteCount: targetByteCount, sectorSize: to)
        #expect(made.remakes.map(\.number) == [1] && made.tableIsUnchanged == false)
        let path = scratch.path.appending("target")
        try file(path, targetByteCount)
        let loop = try LoopDevice(over: path, range: 0..<targetByteCount, sectorSize: to)
        let noise = [UInt8](repeating: 0xDB, count: 1 << 20)
        do {
            let target = try BlockDevice(opening: loop.path, .exclusiveWrite)
            for mebibyte in (0..<140 as Range<UInt64>) where mebibyte < mebibytes {
                try target.writeBytes(noise, at: mebibyte << 20)
            }
            #expect(target.logicalSectorSize == to)
            let source = try OwnedDescriptor.open(image, .readOnly)
            let executor = RestoreExecutor(
                made, target: target, targetPath: loop.path, options: .init(verify: true), progress: Progress(),
                scratch: try RestoreScratch(in: scratch.path, for: made, chunkByteCount: 1 << 20))
            let outcome = try executor.run(try ImageStreamReader(source.raw, name: image.string))
            #expect(executor.state == .complete && outcome.failedGrowths == [])
        }
        #expect(try run(["sgdisk", "-v", loop.path.string]).contains("No problems found"))
        let disk = try BlockDevice(opening: loop.path)
        let table = try #require(try GPTReader.read(disk))
        let old = sample.header.manifest.table
        #expect(table.condition == .intact && table.diskGUID == old.diskGUID)
        #expect(table.partitions.map(\.guid) == old.partitions.map(\.guid))
        #expect(table.partitions.map(\.attributes) == old.partitions.map(\.attributes))
        // An ESP of 256 MiB or more if there is room, else FAT16.
        let esp = try #require(table.partitions.first)
        let isRoomy = from == 512 && mebibytes == 512
        #expect((esp.range.byteCount > 250 * Self.mebibyte) == isRoomy)
        for partition in table.partitions {
            let slice = try #require(BlockSlice(disk, range: partition.range))
            let (info, _) = try VolumeIdentifier.survey(slice)
            let before = sample.header.manifest.regions.first { $0.partition == partition.number }?.filesystem
            #expect(info.uuid == before?.uuid && info.label == before?.label)
            if partition.number == 1 {
                #expect(info.sectorSize == to)
                #expect(info.kind == (isRoomy ? .fat32 : .fat16))
                #expect(
                    try slice.readBytes(at: 28, count: 4).littleEndian(UInt32.self, at: 0) == UInt32(Self.mebibyte)
                        / UInt32(to))
            }
        }
        let part = try LoopDevice(over: path, range: esp.range, sectorSize: to)
        try run(["fsck.fat", "-n", part.path.string])
        let out = scratch.path.appending("out")
        try run(["mcopy", "-i", part.path.string, "::/EFI/debian/a loader.efi", out.string])
        try run(["cmp", out.string, scratch.path.appending("text").string])
        let root = try LoopDevice(over: path, range: table.partitions[1].range, sectorSize: to)
        try run(["e2fsck", "-f", "-n", root.path.string])
        let mounted = try MountedScript.run(
            mount: "mount -t ext4 -o ro \"$node\" \"$place\"", root.path.string, on: scratch.path.appending("mnt"),
            "cmp file \"$1\"", arguments: [scratch.path.appending("text").string])
        #expect(mounted.succeeded, "\(mounted.lastWords)")
    }

    /// Interrupted at any effect, the target has no table, and the same restore then gives the bytes of one without an
    /// interruption.
    @Test func whatWasInterruptedGoesOn() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let sample = try makeDisk(scratch, sectorSize: 512)
        let image = try capture(sample, scratch)
        let made = try plan(sample.header, byteCount: SectoredDisk.byteCount, sectorSize: 4096)
        func run(_ target: MemoryDisk) throws -> RestoreExecutor {
            let source = try OwnedDescriptor.open(image, .readOnly)
            let executor = RestoreExecutor(
                made, target: target, targetPath: nil, progress: Progress(),
                scratch: try RestoreScratch(in: scratch.path, for: made, chunkByteCount: 1 << 20))
            do { _ = try executor.run(try ImageStreamReader(source.raw, name: image.string)) } catch {
                #expect(executor.state == .partial, "seed \(seed): \(error)")
            }
            return executor
        }
        let whole = MemoryDisk(byteCount: Int(SectoredDisk.byteCount), logicalSectorSize: 4096)
        #expect(try run(whole).state == .complete)
        // A slow machine writes the journal more often.
        let journals = whole.log.filter { effect in
            if case .write(let offset, let bytes) = effect {
                return RestoreJournal.slotOffsets.contains(offset) && bytes.count == RestoreJournal.slotByteCount
            }
            return false
        }
        let count = whole.log.count - 2 * (journals.count - 2)
        for part in 0..<4 {
            let target = MemoryDisk(byteCount: Int(SectoredDisk.byteCount), logicalSectorSize: 4096)
            // The last effects are the new FAT and the commit.
            let stop =
                part == 0
                ? count - Int.random(in: 3...12, using: &random) : Int.random(in: 1..<count - 2, using: &random)
            target.fail(after: stop)
            #expect(try run(target).state == .partial, "seed \(seed), stopped at \(stop) of \(count)")
            let cut = MemoryDisk(target.bytes, logicalSectorSize: 4096)
            #expect(try GPTReader.read(cut) == nil, "seed \(seed), stopped at \(stop) of \(count)")
            #expect(try run(cut).state == .complete, "seed \(seed), stopped at \(stop) of \(count)")
            #expect((cut.bytes == whole.bytes) == true, "seed \(seed), stopped at \(stop) of \(count)")
        }
    }

    private func refusal(
        _ header: ImageHeader, sectorSize: Int = 4096, wishes: [Int: PartitionWish] = [:], mustBoot: Bool = true,
        trustsUnknown: Bool = false, byteCount: UInt64 = 1 << 30
    ) -> String? {
        do {
            _ = try plan(
                header, byteCount: byteCount, sectorSize: sectorSize, wishes: wishes, mustBoot: mustBoot,
                trustsUnknown: trustsUnknown)
            return nil
        } catch { return "\(error)" }
    }

    /// Partitions that do not work on the other kind of disk are refused with the reason, and can be dropped.
    @Test func whatDoesNotWorkThereIsRefused() throws {
        let scratch = try ScratchFolder()
        let header = try makeDisk(scratch, sectorSize: 512, blockSize: 1024).header
        let small = try #require(refusal(header))
        #expect(small.contains("partition 2 (ext4): its blocks of 1024 bytes") && small.contains("--partition N=drop"))
        #expect(refusal(header, wishes: [2: .drop]) == nil)
        #expect(refusal(header, trustsUnknown: true) != nil)
        func with(_ filesystem: FilesystemInfo?) throws -> ImageHeader {
            var changed = header
            let index = try #require(changed.manifest.regions.firstIndex { $0.partition == 2 })
            changed.manifest.regions[index].filesystem = filesystem
            return changed
        }
        func info(
            _ kind: FilesystemInfo.Kind, block: Int? = 4096, sector: Int? = nil, inner: [FilesystemInfo]? = nil
        ) -> FilesystemInfo {
            FilesystemInfo(
                kind: kind, kindName: kind.rawValue, blockSize: block, sectorSize: sector,
                mapSource: .allocationStructures,
                inner: inner?.map { .init(name: "vg/lv", byteCount: 1 << 20, filesystem: $0) })
        }
        for good in [
            info(.ext4), info(.xfs, sector: 4096), info(.btrfs, sector: 4096), info(.f2fs), info(.swap),
            info(.lvm, sector: 4096, inner: [info(.ext4), info(.swap)]), info(.luks, inner: [info(.ext4)]),
            info(.ntfs, sector: 4096), info(.exfat, sector: 4096),
        ] { #expect(refusal(try with(good)) == nil, "\(good.kindName)") }
        for (bad, words) in [
            (info(.xfs, sector: 512), "its sectors of 512 bytes"), (info(.btrfs, sector: 2048), "its sectors of 2048"),
            (info(.ntfs, sector: 512), "ntfs made for sectors of 512"), (info(.ntfs), "ntfs made for sectors of 512"),
            (info(.exfat, sector: 512), "exfat made for sectors of 512"),
            (info(.lvm, sector: 4096, inner: [info(.ext4), info(.ext3, block: 1024)]), "vg/lv: its blocks of 1024"),
            (info(.lvm, sector: 4096, inner: [info(.fat32, sector: 512)]), "vg/lv: its FAT has sectors of 512"),
            (info(.lvm, sector: 2048, inner: []), "its extents"),
            (info(.luks, inner: [info(.xfs, sector: 512)]), "vg/lv: its sectors of 512"),
        ] {
            let said = refusal(try with(bad), trustsUnknown: true)
            #expect(said?.contains(words) == true, "\(bad.kindName): \(said ?? "not refused")")
        }
        for doubtful in [
            info(.luks, block: nil), info(.lvm, sector: 4096), info(.raid), info(.other), info(.unknown),
            info(.lvm, inner: []), info(.xfs), info(.ext4, block: nil), nil,
        ] {
            let said = refusal(try with(doubtful))
            let name = doubtful?.kindName ?? "nothing"
            #expect(said?.contains("--trust-unknown") == true, "\(name): \(said ?? "not refused")")
            #expect(said?.contains("partition 2") == true, "\(name)")
            #expect(refusal(try with(doubtful), trustsUnknown: true) == nil, "\(name)")
        }
    }

    @Test func whatCannotStartThereIsRefused() throws {
        let scratch = try ScratchFolder()
        var header = try makeDisk(scratch, sectorSize: 512).header
        #expect(refusal(header) == nil)
        header.manifest.boot = BootSurvey(biosBootCode: "GRUB")
        #expect(refusal(header)?.contains("BIOS does not start") == true)
        #expect(refusal(header, mustBoot: false) == nil)
        header.manifest.boot.efiLoaders = ["\\EFI\\debian\\grubx64.efi"]
        #expect(refusal(header) == nil)
        let made = try plan(header, byteCount: 1 << 30, sectorSize: 4096)
        #expect(made.warnings.contains(.startsByUEFIOnly(sectorSize: 4096)))
        // Without room on the disk, a FAT too full for larger clusters is refused.
        var full = header
        let index = try #require(full.manifest.regions.firstIndex { $0.partition == 1 })
        full.manifest.regions[index].usedByteCount = 30 << 20
        full.manifest.regions[index].filesystem?.blockSize = 512
        #expect(refusal(full, byteCount: 128 << 20)?.contains("its FAT is recreated") == true)
        #expect(refusal(full) == nil)
        // A damaged FAT, and one that is only marked as in use.
        var unclean = header
        unclean.manifest.regions[index].filesystem?.mapSource = .whole
        unclean.manifest.regions[index].filesystem?.wholeReason = "a chain of clusters is broken"
        #expect(refusal(unclean)?.contains("partition 1 (vfat)") == true)
        unclean.manifest.regions[index].filesystem?.isClean = false
        #expect(refusal(unclean) == nil)
        var mbr = header
        mbr.manifest.table.kind = .mbr
        #expect(refusal(mbr)?.contains("MBR") == true)
        #expect(refusal(header, sectorSize: 520)?.contains("only 512 and 4096") == true)
        // With the policy `keep`, the ESP keeps its size.
        let kept = try plan(header, byteCount: 1 << 30, sectorSize: 4096, policy: .keep)
        #expect(kept.remakes.first?.range.byteCount == SectoredDisk.espByteCount)
        let wished = try plan(header, byteCount: 1 << 30, sectorSize: 4096, wishes: [1: .size(100 << 20)])
        #expect(wished.remakes.first?.range.byteCount == 100 << 20)
    }
}
