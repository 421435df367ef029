// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Changed bytes in the metadata of sound filesystems and tables. A trap ends the whole run; what counts beside that
/// is that every answer is a map inside the volume, and that what is not understood is taken whole.
@Suite(.timeLimit(.minutes(Sample.isFull ? 60 : 5))) struct HostileTests {
    /// A format's share: times its variants, 2,000 or more.
    private static func count(_ sample: Int) -> Int { Sample.isFull ? 10_000 : sample }

    /// What became of the mutations.
    private struct Tally: CustomStringConvertible {
        var sources: [FilesystemInfo.MapSource: Int] = [:]
        var reasons: Set<String> = []
        var description: String {
            let counts = FilesystemInfo.MapSource.allNames.map { "\($0.rawValue) \(sources[$0] ?? 0)" }
            return counts.joined(separator: ", ") + "; \(reasons.count) different reasons"
        }
    }

    /// Surveys `count` mutations of `fixture`; `mend` may repair checksums, so that damage gets past them.
    func attack(
        _ name: String, _ fixture: [UInt8], count: Int, areas: [Range<Int>], number: Int,
        mend: (inout PatchedReader, inout SeededGenerator) throws -> Void = { _, _ in },
        also: (PatchedReader, VolumeSurvey) throws -> Void = { _, _ in }
    ) throws {
        var random = Sample.generator(number)
        var tally = Tally()
        for index in 0..<Self.count(count) {
            var reader = PatchedReader(fixture)
            // Most of the time on a volume where sizes are checked; now and then on one where any size fits.
            if index % 4 == 3 { reader.byteCount = 1 << 60 }
            for _ in 0..<Int.random(in: 1...3, using: &random) { reader.addRandomPatch(in: areas, using: &random) }
            try mend(&reader, &random)
            let (info, map) = try VolumeIdentifier.survey(reader)
            let comment: Comment = "seed \(Sample.seed), \(name) \(index): \(reader.patches)"
            #expect(map.byteCount == reader.byteCount, comment)
            #expect((map.ranges.last?.upperBound ?? 0) <= reader.byteCount, comment)
            if info.mapSource == .whole {
                #expect(map.usedByteCount == reader.byteCount && info.wholeReason != nil, comment)
            } else {
                #expect(info.wholeReason == nil, comment)
            }
            tally.sources[info.mapSource, default: 0] += 1
            if let reason = info.wholeReason { tally.reasons.insert(String(reason.filter { !$0.isNumber })) }
            try also(
                reader,
                VolumeSurvey(range: 0..<reader.byteCount, partition: nil, filesystem: info, allocation: map))
        }
        print("seed \(Sample.seed), hostile \(name): \(tally)")
    }

    @Test(.enabled(if: Tool.have("mkfs.exfat"), "needs exfatprogs")) func exfat() throws {
        let bench = try Workbench()
        let byteCount = 4 << 20
        let image = try bench.sparseFile("image", byteCount: UInt64(byteCount))
        try Tool.run(["mkfs.exfat", "-c", "4096", "-b", "64K", image.string])
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
        let boot = try #require(try ExFATBootSector(Array(bytes[..<512])))
        let root = Int(boot.offset(ofCluster: UInt64(boot.rootCluster)))
        let fat = Int(boot.fatByteOffset)
        try attack(
            "exFAT", bytes, count: 1000, areas: [64..<128, fat..<fat + 64, root..<root + 128], number: 3700,
            mend: { reader, _ in
                var region = try reader.readBytes(at: 0, count: 12 * 512)
                ExFATFilesystemTests.mend(&region)
                reader.patches.append((11 * 512, Array(region[(11 * 512)...])))
            })
    }

    @Test(
        .enabled(if: Tool.have("mke2fs"), "needs mke2fs"),
        arguments: [
            "^metadata_csum,^uninit_bg,64bit", "metadata_csum,64bit",
            "uninit_bg,^metadata_csum,^64bit,meta_bg,^resize_inode",
            "bigalloc,metadata_csum", "mmp,^metadata_csum,^uninit_bg,sparse_super2,^resize_inode",
        ])
    func ext(features: String) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 12 << 20)
        let groups = features.contains("bigalloc") ? [] : ["-g", "1024"]
        try Tool.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-J", "size=1", "-O", features] + groups + [image.string]
        )
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 12 << 20)
        // Superblock, descriptors, and the inode of the journal.
        let inodeTable = Int(try bytes.littleEndian(UInt32.self, at: 2048 + 8)) * 1024
        let inodeSize = Int(try bytes.littleEndian(UInt16.self, at: 1024 + 0x58))
        let journal = inodeTable + 7 * inodeSize
        let areas = [1024..<1024 + 0x80, 1024..<2048, 2048..<3072, 2048..<2048 + 128, journal..<journal + 128]
        try attack(
            "ext4 \(features)", bytes, count: 500, areas: areas, number: 3000,
            mend: { reader, random in
                guard Int.random(in: 0..<10, using: &random) > 0 else { return }
                var superblock = try reader.current(1024..<2048)
                superblock.setLittleEndian(ExtChecksum.crc32c(.max, Array(superblock[..<0x3FC])), at: 0x3FC)
                reader.patches.append((1024, superblock))
                try Self.mendDescriptors(&reader)
            })
    }

    /// Makes the checksums of the first block of descriptors right again.
    private static func mendDescriptors(_ reader: inout PatchedReader) throws {
        guard let superblock = try ExtSuperblock(try reader.current(1024..<2048)), superblock.hasDescriptorChecksums
        else {
            return
        }
        let size = superblock.descriptorSize
        guard size >= 32, size <= 1024 else { return }
        var block = try reader.current(2048..<3072)
        for index in 0..<1024 / size {
            block.setLittleEndian(
                Self.checksum(block, index * size, UInt32(index), superblock), at: index * size + 0x1E)
        }
        reader.patches.append((2048, block))
    }

    private static func checksum(
        _ block: [UInt8], _ place: Int, _ group: UInt32, _ superblock: ExtSuperblock
    ) -> UInt16 {
        var number: [UInt8] = []
        number.appendLittleEndian(group)
        let raw = Array(block[place..<place + superblock.descriptorSize])
        if superblock.has(readOnlyCompatible: ExtFeature.metadataChecksum) {
            var blank = raw
            blank[0x1E] = 0
            blank[0x1F] = 0
            let seed = ExtChecksum.crc32c(superblock.checksumSeed, number)
            return UInt16(truncatingIfNeeded: ExtChecksum.crc32c(seed, blank))
        }
        return ExtChecksum.crc16(.max, superblock.uuid + number + raw[..<0x1E] + raw[0x20...])
    }

    @Test(.enabled(if: Tool.have("mkfs.fat", "mcopy", "mmd"), "needs dosfstools and mtools"), arguments: [12, 16, 32])
    func fat(bits: Int) throws {
        let bench = try Workbench()
        let image = try FATFilesystemTests.systemPartition(
            bench, bits: bits, byteCount: bits == 12 ? 1 << 20 : bits == 16 ? 3 << 20 : 36 << 20, sectorsPerCluster: 1)
        let disk = try BlockDevice(opening: image)
        // Only the head of it: the rest is zeros anyway.
        let bytes = try disk.readBytes(at: 0, count: Int(min(disk.byteCount, 3 << 20)))
        let boot = try #require(try FATBootSector(bytes))
        let fat = Int(boot.offset(ofFAT: 0))
        let data = Int(bits == 32 ? boot.dataOffset : boot.rootFolderOffset)
        let areas = [
            0..<90, 0..<512, fat..<fat + 64, data..<data + 512, Int(boot.dataOffset)..<Int(boot.dataOffset) + 4096 * 4,
        ]
        try attack(
            "FAT\(bits)", bytes, count: 700, areas: areas, number: 3100 + bits,
            mend: { reader, _ in
                reader.byteCount = max(reader.byteCount, disk.byteCount)
            },
            also: { reader, survey in
                // Walks all folders for loaders.
                _ = try BootSurveyor(disk: reader).survey([survey])
                guard let volume = try? FATVolume(reader) else { return }
                for path in ["EFI/BOOT/BOOTX64.EFI", "efi/debian/grub with a long name.cfg"] {
                    _ = try? volume.readFile(path, limit: 1 << 16)
                }
            })
    }

    @Test(.enabled(if: Tool.have("mkfs.xfs"), "needs xfsprogs"), arguments: [4, 5, 6]) func xfs(variant: Int) throws {
        // 6: version 5 with trees of two levels, which only a mounted filesystem gets.
        guard variant < 6 || Tool.canMountXFS else { return }
        let fixture = variant == 4 ? XFSFixture.version4 : variant == 5 ? XFSFixture.version5 : XFSFixture.fragmented
        let bytes = try XFSFixture.withShortLog(try fixture.get())
        let (sound, soundMap) = try VolumeIdentifier.survey(PatchedReader(bytes))
        #expect(sound.wholeReason == nil)
        let (groups, trees, log, blockSize) = try XFSFixture.places(bytes)
        let record = log.lowerBound..<log.lowerBound + 1024
        let areas =
            [0..<256, 0..<256, record] + groups.map { $0 + 512..<$0 + 736 } + groups.map { $0 + 1536..<$0 + 1700 }
            + trees.flatMap { [$0..<$0 + 128, $0..<$0 + blockSize] }
        try attack(
            "XFS \(variant)", bytes, count: 700, areas: areas, number: 3400 + variant,
            mend: { reader, random in
                guard variant > 4, Int.random(in: 0..<10, using: &random) > 0 else { return }
                try XFSFixture.mendAll(&reader, groups: groups, trees: trees, blockSize: blockSize)
            },
            also: { reader, survey in
                // Each free block is listed in two trees and counted: no few changed bytes free another.
                guard survey.filesystem.mapSource == .allocationStructures, reader.byteCount == UInt64(bytes.count),
                    try reader.current(0..<224) == Array(bytes[..<224])
                else { return }
                #expect(survey.allocation == soundMap, "seed \(Sample.seed), XFS \(variant): \(reader.patches)")
            })
    }

    @Test(
        .enabled(if: Tool.have("mkfs.btrfs"), "needs btrfs-progs"),
        arguments: [
            ["--mixed", "-n", "4096"], ["--mixed", "-n", "4096", "--csum", "xxhash", "-O", "^skinny-metadata"],
        ])
    func btrfs(options: [String]) throws {
        let fixture = try BtrfsFixture.make(options, byteCount: 40 << 20, files: 200)
        let checksum: BtrfsChecksum = options.contains("xxhash") ? .xxhash64 : .crc32c
        let (superblock, blocks) = (65536, try fixture.blocks())
        var areas = [32..<299, 811..<811 + 129, 56..<212].map {
            superblock + $0.lowerBound..<superblock + $0.upperBound
        }
        for owner in [1, 2, 2, 3, 4] as [UInt64] {
            // Header and first entries; and the last data, which are those of the first items.
            for block in try fixture.blocks(owner: owner).suffix(8) {
                areas += [block + 32..<block + 101, block + 101..<block + 400, block + 3500..<block + 4096]
            }
        }
        try attack(
            "Btrfs \(options.joined(separator: " "))", fixture.bytes, count: 1000, areas: areas,
            number: 3800 + options.count,
            mend: { reader, _ in
                for patch in reader.patches {
                    guard
                        let start = [superblock, blocks.last { $0 <= patch.offset } ?? 0].max(by: {
                            ($0 <= patch.offset ? $0 : 0) < ($1 <= patch.offset ? $1 : 0)
                        })
                    else { continue }
                    var block = try reader.current(start..<start + 4096)
                    BtrfsFixture.mend(&block, checksum)
                    reader.patches.append((start, block))
                }
            })
    }

    /// Records keep their update sequences: patches hit the two bytes in question rarely.
    @Test(.enabled(if: Tool.have("mkntfs", "ntfscp"), "needs ntfs-3g")) func ntfs() throws {
        let bench = try Workbench()
        let byteCount = 4 << 20
        let image = try NTFSRecipe(byteCount: UInt64(byteCount), clusterSize: 512).make(bench)
        try bench.write([UInt8](repeating: 0, count: 200_000), to: bench.path("file"))
        for name in ["hiberfil.sys", "pagefile.sys"] + (0..<40).map({ "some file with a long name \($0)" }) {
            try Tool.run(["ntfscp", "-f", "-q", image.string, bench.path("file").string, name])
            if name == "pagefile.sys" { try bench.write([1, 2, 3], to: bench.path("file")) }
        }
        var bytes = try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
        let boot = try #require(try NTFSBootSector(bytes))
        let table = try NTFSMasterFileTable(MemoryDisk(bytes), boot)
        func places(_ number: UInt64, _ type: NTFSAttribute.Kind, _ name: String = "") throws -> [Range<Int>] {
            try #require(try table.stream(of: try table.record(number), type, name: name)).ranges.map {
                Int($0.lowerBound)..<Int($0.upperBound)
            }
        }
        let log = try #require(try places(2, .data).first).lowerBound
        // Half of them with the log that Windows leaves, half with that of Linux: then all records are read.
        let emptied = bytes
        let pages = NTFSStateTests.restartPages()
        bytes.replaceSubrange(log..<log + pages.count, with: pages)
        let records = (0..<40).map { number in
            let start = Int(boot.mftCluster * boot.clusterSize) + number * Int(boot.recordSize)
            return start..<start + 400
        }
        let index = try places(5, .indexAllocation, "$I30")
        let areas =
            records + [3..<90, 3..<90, log..<log + 80] + index + (try places(6, .data)) + [records[0], records[6]]
        #expect(try VolumeIdentifier.survey(MemoryDisk(bytes)).0.wholeReason == nil && !index.isEmpty)
        try attack("NTFS, emptied log", emptied, count: 300, areas: records + areas, number: 3801)
        try attack(
            "NTFS", bytes, count: 500, areas: areas, number: 3800,
            also: { reader, survey in
                let ranges = try NTFSFilesystem.pageFileRanges(reader)
                #expect(ranges.allSatisfy { survey.allocation.covers($0) })
            })
    }

    @Test(.enabled(if: Tool.have("mkswap"), "needs mkswap")) func swap() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 20)
        try Tool.run(["mkswap", "-p", "4096", image.string])
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 1 << 20)
        try attack("swap", bytes, count: 2000, areas: [1024..<1100, 4080..<4096], number: 3200)
    }

    @Test(arguments: [512, 4096]) func partitionTable(sectorSize: Int) throws {
        let fixture = GPTFixture(
            sectorSize: sectorSize, sectorCount: 256, entryCount: 16, partitions: [(40, 63), (64, 127)])
        let bytes = try fixture.bytes()
        let last = bytes.count - sectorSize
        let areas = [0..<512, sectorSize..<sectorSize + 92, 2 * sectorSize..<2 * sectorSize + 512, last..<last + 92]
        var random = Sample.generator(3300 + sectorSize)
        var conditions: [String: Int] = [:]
        for index in 0..<Self.count(1200) {
            var reader = PatchedReader(bytes, logicalSectorSize: sectorSize)
            for _ in 0..<Int.random(in: 1...3, using: &random) { reader.addRandomPatch(in: areas, using: &random) }
            if index % 4 != 0 {
                var changed = try reader.current(0..<bytes.count)
                fixture.fixCopy(&changed, at: index % 2 == 0 ? sectorSize : last)
                reader = PatchedReader(changed, logicalSectorSize: sectorSize)
            }
            let survey = try DiskSurveyor.survey(
                reader, identity: DiskIdentity(path: "hostile"), geometry: DiskGeometry(byteCount: reader.byteCount))
            let comment: Comment = "seed \(Sample.seed), GPT \(index): \(reader.patches)"
            var position: UInt64 = 0
            for volume in survey.volumes {
                #expect(volume.range.lowerBound >= position && volume.range.upperBound <= reader.byteCount, comment)
                #expect(volume.allocation.byteCount == volume.range.byteCount, comment)
                position = volume.range.upperBound
            }
            conditions["\(survey.table.kind) \(survey.table.condition)", default: 0] += 1
        }
        print(
            "seed \(Sample.seed), hostile GPT of \(sectorSize)-byte sectors: \(conditions.sorted { $0.key < $1.key })")
    }
}

extension FilesystemInfo.MapSource {
    fileprivate static var allNames: [FilesystemInfo.MapSource] { [.allocationStructures, .headerOnly, .whole] }
}
