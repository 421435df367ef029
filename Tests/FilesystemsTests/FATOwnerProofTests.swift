// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// Maps of FAT and exFAT that mark clusters of files and folders as free.
struct FATOwnerProofTests {
    private func reason(_ bytes: [UInt8], trustMaps: Bool = false) throws -> String? {
        try VolumeIdentifier.survey(MemoryDisk(bytes), trustMaps: trustMaps).0.wholeReason
    }

    /// Frees an entry in that many FATs.
    private func free(_ cluster: UInt32, _ bytes: inout [UInt8], _ boot: FATBootSector, fats: UInt64 = 2) {
        for index in 0..<fats {
            let bit = Int(cluster) * boot.entryBits
            let place = Int(boot.offset(ofFAT: index)) + bit / 8
            switch boot.entryBits {
            case 12 where bit % 8 == 0: (bytes[place], bytes[place + 1]) = (0, bytes[place + 1] & 0xF0)
            case 12: (bytes[place], bytes[place + 1]) = (bytes[place] & 0x0F, 0)
            default: for offset in 0..<boot.entryBits / 8 { bytes[place + offset] = 0 }
            }
        }
    }

    @Test(.enabled(if: Tool.have("mkfs.fat", "mcopy"), "needs dosfstools and mtools"), arguments: [12, 16, 32])
    func aChainThatRunsIntoAFreeClusterIsFound(bits: Int) throws {
        let bench = try Workbench()
        try Files.makeFolders(bench.path("tree/A folder/inner"))
        for name in ["long file name.txt", "A folder/second.bin", "A folder/inner/third.bin"] {
            try bench.write([UInt8](repeating: 7, count: 20_000), to: bench.path("tree").appending(name))
        }
        let image = try bench.sparseFile("image", byteCount: [12: 2, 16: 6, 32: 40][bits, default: 40] << 20)
        try Tool.run(["mkfs.fat", "-F", "\(bits)", "-s", "1", image.string])
        try Tool.run([
            "mcopy", "-s", "-Q", "-i", image.string, bench.path("tree/A folder").string,
            bench.path("tree/long file name.txt").string, "::/",
        ])
        let disk = try BlockDevice(opening: image)
        let sound = try disk.readBytes(at: 0, count: Int(disk.byteCount))
        let volume = try FATVolume(MemoryDisk(sound))
        var table = FATTable(volume.volume, volume.boot)
        #expect(try reason(sound) == nil)
        for (folder, name, isFolder) in [
            ("", "long file name.txt", false), ("A folder", "second.bin", false), ("A folder", "inner", true),
            ("A folder/inner", "third.bin", false),
        ] {
            let entry = try #require(try volume.entries(in: folder).first { $0.name == name })
            let chain = try table.chain(from: entry.firstCluster, limit: 1 << 16)
            let owner = "the \(isFolder ? "folder" : "file") \(folder.isEmpty ? name : "\(folder)/\(name)")"
            for cluster in [chain.first, chain.dropFirst().first, chain.last].compactMap({ $0 }) {
                var lies = sound
                free(cluster, &lies, volume.boot)
                #expect(try reason(lies, trustMaps: true) == nil)
                #expect(try reason(lies) == "\(owner) uses cluster \(cluster), which the FAT calls free")
                // The second FAT has it: it is in the map, and nothing is lost.
                var one = sound
                free(cluster, &one, volume.boot, fats: 1)
                #expect(try reason(one) == nil)
            }
        }
        // Names come from the disk: only their printable characters reach a terminal.
        var lies = sound
        let entry = try #require(try volume.entries(in: "A folder").first { $0.name == "second.bin" })
        let slot = try #require(lies.firstRange(of: Array("SECOND  BIN".utf8))).lowerBound
        lies.replaceSubrange(slot..<slot + 4, with: [0x1B, 0x5B, 0x32, 0x4A])
        free(entry.firstCluster, &lies, volume.boot)
        #expect(try reason(lies)?.unicodeScalars.allSatisfy { $0.value >= 0x20 } == true)
    }

    @Test(.enabled(if: Tool.have("mkfs.exfat", "fsck.exfat"), "needs exfatprogs"))
    func anExFATBitmapThatCallsFilesFreeIsFound() throws {
        let sound = try ExFATFixture(try HostileFixture.makeExFAT())
        #expect(try reason(sound.bytes) == nil)
        let bench = try Workbench()
        try bench.write(sound.bytes, to: bench.path("image"))
        try Tool.run(["fsck.exfat", "-n", bench.path("image").string])
        for (owner, cluster) in [
            ("the file row", ExFATFixture.contiguous), ("the file row", ExFATFixture.contiguous + 4),
            ("the file row", ExFATFixture.contiguous + 9), ("the file chain", ExFATFixture.chained),
            ("the file chain", ExFATFixture.chained + 1), ("the file chain", ExFATFixture.chained + 3),
            ("the folder folder", ExFATFixture.folder), ("the file folder/inner", ExFATFixture.inner + 1),
        ] {
            var lies = sound
            lies.mark(cluster, isUsed: false)
            #expect(try reason(lies.bytes, trustMaps: true) == nil)
            let expected = "\(owner) uses cluster \(cluster), which the allocation bitmap calls free"
            #expect(try reason(lies.bytes) == expected)
        }
        // A circular chain is followed no further than its length.
        var circle = sound
        circle.link(ExFATFixture.folder, to: UInt32(ExFATFixture.folder))
        #expect(try reason(circle.bytes) == nil)
    }
}
