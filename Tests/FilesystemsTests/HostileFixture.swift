// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

/// A valid volume or disk to be damaged: the places of its metadata, and the repair of its checksums, so that the
/// damage gets past them. For `HostileTests`, and for Tests/Fuzz.
struct HostileFixture: Sendable {
    /// The bytes before any damage.
    var bytes: [UInt8]
    /// The length that the reader shows; zeros follow `bytes`.
    var byteCount: UInt64
    var logicalSectorSize = 512
    /// The most relevant places for changes.
    var areas: [Range<Int>] = []
    /// Appends patches that repair checksums.
    var mend: @Sendable (inout PatchedReader) throws -> Void = { _ in }

    init(_ bytes: [UInt8], byteCount: UInt64? = nil, areas: [Range<Int>] = []) {
        self.bytes = bytes
        self.byteCount = byteCount ?? UInt64(bytes.count)
        self.areas = areas
    }

    /// The reader without any damage.
    var reader: PatchedReader {
        var reader = PatchedReader(bytes, logicalSectorSize: logicalSectorSize)
        reader.byteCount = byteCount
        return reader
    }
}

// Each format's maker, which runs the format's own tool, and the known places in its bytes.
extension HostileFixture {
    static func makeExFAT() throws -> [UInt8] {
        let bench = try Workbench()
        let byteCount = 4 << 20
        let image = try bench.sparseFile("image", byteCount: UInt64(byteCount))
        try Tool.run(["mkfs.exfat", "-c", "4096", "-b", "64K", image.string])
        var fixture = try ExFATFixture(try BlockDevice(opening: image).readBytes(at: 0, count: byteCount))
        try fixture.addTree()
        return fixture.bytes
    }

    static func exfat(_ bytes: [UInt8]) throws -> HostileFixture {
        let boot = try some(try ExFATBootSector(Array(bytes[..<512])), "exFAT")
        let root = Int(boot.offset(ofCluster: UInt64(boot.rootCluster)))
        let fat = Int(boot.fatByteOffset)
        let tree = try ExFATFixture(bytes)
        let folder = tree.offset(ofCluster: ExFATFixture.folder)
        var fixture = HostileFixture(
            bytes,
            areas: [
                64..<128, fat..<fat + 64, root..<root + 128, root..<root + 512, folder..<folder + 128,
                fat + 4 * ExFATFixture.folder..<fat + 4 * ExFATFixture.folder + 64,
                tree.bitmap..<tree.bitmap + 64,
            ])
        fixture.mend = { reader in
            var region = try reader.readBytes(at: 0, count: 12 * 512)
            mendExFAT(&region)
            reader.patches.append((11 * 512, Array(region[(11 * 512)...])))
        }
        return fixture
    }

    /// Repairs the checksum of an exFAT's boot region.
    static func mendExFAT(_ bytes: inout [UInt8]) {
        let sum = ExFATBootSector.checksum(bytes[..<(11 * 512)])
        for offset in stride(from: 11 * 512, to: 12 * 512, by: 4) { bytes.setLittleEndian(sum, at: offset) }
    }

    static func makeExt(_ features: String) throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 12 << 20)
        let groups = features.contains("bigalloc") ? [] : ["-g", "1024"]
        var random = SeededGenerator(seed: 12)
        try bench.randomTree("tree", files: 20, maximumByteCount: 30_000, using: &random)
        try Tool.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-J", "size=1", "-O", features] + groups
                + ["-d", bench.path("tree").string, image.string])
        return try BlockDevice(opening: image).readBytes(at: 0, count: 12 << 20)
    }

    /// Superblock, descriptors, and the inode of the journal.
    static func ext(_ bytes: [UInt8]) throws -> HostileFixture {
        let inodeTable = Int(try bytes.littleEndian(UInt32.self, at: 2048 + 8)) * 1024
        let inodeSize = Int(try bytes.littleEndian(UInt16.self, at: 1024 + 0x58))
        let journal = inodeTable + 7 * inodeSize
        var fixture = HostileFixture(
            bytes,
            areas: [
                1024..<1024 + 0x80, 1024..<2048, 2048..<3072, 2048..<2048 + 128, journal..<journal + 128,
                inodeTable..<inodeTable + 20 * inodeSize, journal + 3 * inodeSize..<journal + 8 * inodeSize,
            ])
        fixture.mend = { reader in
            var superblock = try reader.current(1024..<2048)
            superblock.setLittleEndian(ExtChecksum.crc32c(.max, Array(superblock[..<0x3FC])), at: 0x3FC)
            reader.patches.append((1024, superblock))
            try mendDescriptors(&reader)
        }
        return fixture
    }

    /// Repairs the checksums of the first block of descriptors.
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
                checksum(block, index * size, UInt32(index), superblock), at: index * size + 0x1E)
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

    /// Only the head of it: the rest is zeros.
    static func makeFAT(bits: Int) throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.systemPartition(bits: bits, byteCount: fatByteCount(bits), sectorsPerCluster: 1)
        let disk = try BlockDevice(opening: image)
        return try disk.readBytes(at: 0, count: Int(min(disk.byteCount, 3 << 20)))
    }

    private static func fatByteCount(_ bits: Int) -> UInt64 { bits == 12 ? 1 << 20 : bits == 16 ? 3 << 20 : 36 << 20 }

    static func fat(_ bytes: [UInt8], bits: Int) throws -> HostileFixture {
        let boot = try some(try FATBootSector(bytes), "FAT")
        let fat = Int(boot.offset(ofFAT: 0))
        let data = Int(bits == 32 ? boot.dataOffset : boot.rootFolderOffset)
        return HostileFixture(
            bytes, byteCount: fatByteCount(bits),
            areas: [
                0..<90, 0..<512, fat..<fat + 64, data..<data + 512,
                Int(boot.dataOffset)..<Int(boot.dataOffset) + 4096 * 4,
            ])
    }

    /// Version 4, 5, or 6: version 5 with trees of two levels, which only a mounted filesystem gets.
    static func makeXFS(variant: Int) throws -> [UInt8] {
        let made = variant == 4 ? XFSFixture.version4 : variant == 5 ? XFSFixture.version5 : XFSFixture.fragmented
        return try XFSFixture.withShortLog(try made.get())
    }

    static func xfs(_ bytes: [UInt8], variant: Int) throws -> HostileFixture {
        let (groups, trees, log, blockSize) = try XFSFixture.places(bytes)
        let record = log.lowerBound..<log.lowerBound + 1024
        var fixture = HostileFixture(
            bytes,
            areas: [0..<256, 0..<256, record] + groups.map { $0 + 512..<$0 + 736 }
                + groups.map { $0 + 1536..<$0 + 1700 } + trees.flatMap { [$0..<$0 + 128, $0..<$0 + blockSize] })
        if variant > 4 {
            fixture.mend = { try XFSFixture.mendAll(&$0, groups: groups, trees: trees, blockSize: blockSize) }
        }
        return fixture
    }

    static func makeBtrfs(_ options: [String]) throws -> [UInt8] {
        try BtrfsFixture.make(options, byteCount: 40 << 20, files: 200).bytes
    }

    static func btrfs(_ bytes: [UInt8]) throws -> HostileFixture {
        let sound = try BtrfsFixture(bytes)
        let checksum = BtrfsChecksum(rawValue: sound.superblock.checksumType) ?? .crc32c
        let (superblock, blocks) = (65536, try sound.blocks())
        var areas = [32..<299, 811..<811 + 129, 56..<212].map {
            superblock + $0.lowerBound..<superblock + $0.upperBound
        }
        for owner in [1, 2, 2, 3, 4, 5] as [UInt64] {
            // Header and first entries; and the last data, which belong to the first items.
            for block in try sound.blocks(owner: owner).suffix(8) {
                areas += [block + 32..<block + 101, block + 101..<block + 400, block + 3500..<block + 4096]
            }
        }
        var fixture = HostileFixture(bytes, areas: areas)
        fixture.mend = { reader in
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
        }
        return fixture
    }

    /// Unwraps a value that a maker requires.
    static func some<Value>(_ value: Value?, _ what: String) throws -> Value {
        guard let value else { throw ToolFailure(description: "no \(what)") }
        return value
    }
}

extension Workbench {
    /// A FAT with loaders in folders, as `esp`.
    func systemPartition(bits: Int, byteCount: UInt64? = nil, sectorsPerCluster: Int? = nil) throws -> FilePath {
        let image = try sparseFile("esp", byteCount: byteCount ?? (bits == 12 ? 2 << 20 : 40 << 20))
        let cluster = sectorsPerCluster.map { ["-s", "\($0)"] } ?? []
        try Tool.run(["mkfs.fat", "-F", "\(bits)", "-n", "ESP"] + cluster + [image.string])
        try Tool.run(["mmd", "-i", image.string, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"])
        try write(Array("hello".utf8), to: path("text"))
        for name in ["EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi", "EFI/debian/grub with a long name.cfg"] {
            try Tool.run(["mcopy", "-i", image.string, path("text").string, "::/\(name)"])
        }
        return image
    }
}
