// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Changed bytes in the metadata of valid filesystems and tables. A trap ends the whole run; besides that, every
/// answer must be a map inside the volume, and unsupported contents must be taken whole.
@Suite struct HostileTests {
    /// A format's share: times its variants, 2,000 or more.
    private static func count(_ sample: Int) -> Int { Sample.isFull ? 10_000 : sample }

    /// The processor time in seconds after which a format's share counts as hung.
    private static var limit: Int { Sample.isFull ? 3600 : 300 }

    /// The outcomes of the mutations.
    private struct Tally: CustomStringConvertible {
        var sources: [FilesystemInfo.MapSource: Int] = [:]
        var reasons: Set<String> = []
        var description: String {
            let counts = FilesystemInfo.MapSource.allNames.map { "\($0.rawValue) \(sources[$0] ?? 0)" }
            return counts.joined(separator: ", ") + "; \(reasons.count) different reasons"
        }
    }

    /// Surveys `count` mutations of `fixture`; those selected by `isMended` with repaired checksums.
    func attack(
        _ name: String, _ fixture: HostileFixture, count: Int, number: Int,
        change: (inout PatchedReader, inout SeededGenerator) throws -> Void = { _, _ in },
        isMended: (inout SeededGenerator) -> Bool = { _ in true },
        also: (PatchedReader, VolumeSurvey) throws -> Void = { _, _ in }
    ) throws {
        var random = Sample.generator(number)
        var tally = Tally()
        try ProcessorTime.limited(to: Self.limit, name) {
            for index in 0..<Self.count(count) {
                var reader = fixture.reader
                // Usually on a volume where sizes are checked; sometimes on one where any size fits.
                if index % 4 == 3 { reader.byteCount = 1 << 60 }
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    reader.addRandomPatch(in: fixture.areas, using: &random)
                }
                try change(&reader, &random)
                if isMended(&random) { try fixture.mend(&reader) }
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
        }
        print("seed \(Sample.seed), hostile \(name): \(tally)")
    }

    /// Usually with correct checksums.
    static let mostly: @Sendable (inout SeededGenerator) -> Bool = { Int.random(in: 0..<10, using: &$0) > 0 }

    @Test(.enabled(if: Tool.have("mkfs.exfat"), "needs exfatprogs")) func exfat() throws {
        try attack("exFAT", try .exfat(try HostileFixture.makeExFAT()), count: 1000, number: 3700)
    }

    @Test(
        .enabled(if: Tool.have("mke2fs"), "needs mke2fs"),
        arguments: [
            "^metadata_csum,^uninit_bg,64bit", "metadata_csum,64bit",
            "uninit_bg,^metadata_csum,^64bit,meta_bg,^resize_inode",
            "bigalloc,metadata_csum", "mmp,^metadata_csum,^uninit_bg,sparse_super2,^resize_inode",
        ])
    func ext(features: String) throws {
        let fixture = try HostileFixture.ext(try HostileFixture.makeExt(features))
        try attack("ext4 \(features)", fixture, count: 500, number: 3000, isMended: Self.mostly)
    }

    @Test(.enabled(if: Tool.have("mkfs.fat", "mcopy", "mmd"), "needs dosfstools and mtools"), arguments: [12, 16, 32])
    func fat(bits: Int) throws {
        let fixture = try HostileFixture.fat(try HostileFixture.makeFAT(bits: bits), bits: bits)
        try attack(
            "FAT\(bits)", fixture, count: 700, number: 3100 + bits,
            also: { reader, survey in
                // Walks all folders for loaders.
                _ = try BootCodeSurveyor(disk: reader).survey([survey])
                guard let volume = try? FATVolume(reader) else { return }
                for path in ["EFI/BOOT/BOOTX64.EFI", "efi/debian/grub with a long name.cfg"] {
                    _ = try? volume.readFile(path, limit: 1 << 16)
                }
            })
    }

    @Test(.enabled(if: Tool.have("mkfs.xfs"), "needs xfsprogs"), arguments: [4, 5, 6]) func xfs(variant: Int) throws {
        // 6: version 5 with trees of two levels, which only a mounted filesystem gets.
        guard variant < 6 || Tool.canMountXFS else { return }
        let bytes = try HostileFixture.makeXFS(variant: variant)
        let (sound, soundMap) = try VolumeIdentifier.survey(PatchedReader(bytes))
        #expect(sound.wholeReason == nil)
        try attack(
            "XFS \(variant)", try .xfs(bytes, variant: variant), count: 700, number: 3400 + variant,
            isMended: Self.mostly,
            also: { reader, survey in
                // Each free block is in two trees and in a count: a few changed bytes free no other block.
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
        try attack(
            "Btrfs \(options.joined(separator: " "))", try .btrfs(try HostileFixture.makeBtrfs(options)), count: 1000,
            number: 3800 + options.count)
    }

    /// Half of them with the log that Windows leaves, half with that of Linux.
    @Test(.enabled(if: Tool.have("mkntfs", "ntfscp"), "needs ntfs-3g")) func ntfs() throws {
        let bytes = try HostileFixture.makeNTFS()
        let fixture = try HostileFixture.ntfs(bytes, windowsLog: true)
        #expect(try VolumeIdentifier.survey(fixture.reader).0.wholeReason == nil)
        try attack("NTFS, emptied log", try .ntfs(bytes, windowsLog: false), count: 300, number: 3801)
        try attack(
            "NTFS", fixture, count: 500, number: 3800,
            also: { reader, survey in
                let ranges = try NTFSFilesystem.pageFileRanges(reader)
                #expect(ranges.allSatisfy { survey.allocation.covers($0) })
            })
    }

    @Test(.enabled(if: Tool.have("mkswap"), "needs mkswap")) func swap() throws {
        try attack("swap", .swap(try HostileFixture.makeSwap()), count: 2000, number: 3200)
    }

    @Test(arguments: [512, 4096]) func partitionTable(sectorSize: Int) throws {
        let fixtures = try [true, false].map { try HostileFixture.gpt(sectorSize: sectorSize, last: $0) }
        var random = Sample.generator(3300 + sectorSize)
        var conditions: [String: Int] = [:]
        try ProcessorTime.limited(to: Self.limit, "GPT") {
            for index in 0..<Self.count(1200) {
                let fixture = fixtures[index % 2 == 0 ? 1 : 0]
                var reader = fixture.reader
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    reader.addRandomPatch(in: fixture.areas, using: &random)
                }
                if index % 4 != 0 { try fixture.mend(&reader) }
                let survey = try DiskSurveyor.survey(
                    reader, identity: DiskIdentity(path: "hostile"), geometry: DiskGeometry(byteCount: reader.byteCount)
                )
                let comment: Comment = "seed \(Sample.seed), GPT \(index): \(reader.patches)"
                var position: UInt64 = 0
                for volume in survey.volumes {
                    #expect(volume.range.lowerBound >= position && volume.range.upperBound <= reader.byteCount, comment)
                    #expect(volume.allocation.byteCount == volume.range.byteCount, comment)
                    position = volume.range.upperBound
                }
                conditions["\(survey.table.kind) \(survey.table.condition)", default: 0] += 1
            }
        }
        print(
            "seed \(Sample.seed), hostile GPT of \(sectorSize)-byte sectors: \(conditions.sorted { $0.key < $1.key })")
    }
}

extension FilesystemInfo.MapSource {
    fileprivate static var allNames: [FilesystemInfo.MapSource] { [.allocationStructures, .headerOnly, .whole] }
}
