// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(
    .enabled(
        if: Tool.have("mkfs.fat", "mcopy", "mdel", "mshowfat", "minfo", "mlabel", "fsck.fat"),
        "needs dosfstools and mtools"))
struct FATFilesystemTests {
    static let cases = Array(0..<(Sample.isFull ? 90 : 12))

    /// A random FAT with a random tree, partly deleted again: Reforge's map is exactly the clusters that mtools lists
    /// for its files and folders, fsck.fat finds no errors after the rest is overwritten, and the files are equal.
    @Test(arguments: cases) func mapIsWhatMtoolsSays(index: Int) throws {
        var random = Sample.generator(1000 + index)
        let bits = [12, 16, 32][index % 3]
        let sectorSize = index % 4 == 3 ? 4096 : 512
        let fewest = sectorSize == 4096 ? 1000...4000 : 3000...8000
        let sectors = Int.random(in: [fewest, 20_000...60_000, 70_000...300_000][index % 3], using: &random)
        let byteCount = UInt64(min(sectors * sectorSize, 1 << 29))
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: byteCount)
        let perCluster = bits == 32 ? 1 : [1, 2, 4].randomElement(using: &random) ?? 4
        let clusterArgument = bits == 12 ? ["-s", "8"] : ["-s", "\(perCluster)"]
        try Tool.run(
            [
                "mkfs.fat", "-F", "\(bits)", "-S", "\(sectorSize)", "-n", "VOL \(index)", "-f",
                index % 5 == 4 ? "1" : "2",
            ]
                + (sectorSize == 4096 ? ["-s", "1"] : clusterArgument) + [image.string])
        let comment: Comment =
            "seed \(Sample.seed), case \(index): FAT\(bits), \(sectorSize)-byte sectors, \(byteCount) bytes"
        let files = try bench.randomTree("tree", files: 40, maximumByteCount: 20_000, using: &random)
        let roots = Files.names(in: bench.path("tree")).map { bench.path("tree").appending($0).string }
        try Tool.run(["mcopy", "-s", "-Q", "-i", image.string] + roots + ["::/"])
        var kept = files
        for name in files.keys.sorted() where Bool.random(using: &random) {
            try Tool.run(["mdel", "-i", image.string, "::/\(name)"])
            kept[name] = nil
        }

        let (info, map) = try bench.survey("image")
        #expect(info.kind == [12: .fat12, 16: .fat16, 32: .fat32][bits], comment)
        #expect(info.mapSource == .allocationStructures && info.wholeReason == nil, comment)
        #expect(info.label == "VOL \(index)", comment)
        #expect(try bench.opinion("image") == .found(kindName: "vfat", uuid: info.uuid, label: info.label), comment)

        // mtools' view: everything before the clusters, then the clusters of each file and folder.
        let boot = try #require(try FATBootSector(try BlockDevice(opening: image).readBytes(at: 0, count: 512)))
        let listed = try Tool.run(
            ["mshowfat", "-i", image.string, "::/"]
                + Self.names(in: bench).map { "::/\($0)" }.filter { name in
                    kept["\(name.dropFirst(3))"] != nil || !files.keys.contains(String(name.dropFirst(3)))
                })
        var ranges: [ByteRange] = [0..<boot.dataOffset, boot.offset(ofCluster: boot.clusterEnd)..<byteCount]
        for (first, last) in Self.clusters(in: listed) where first >= 2 {
            ranges.append(boot.offset(ofCluster: first)..<boot.offset(ofCluster: last + 1))
        }
        if bits == 32, boot.rootCluster >= 2 {
            let root = UInt64(boot.rootCluster)
            ranges.append(boot.offset(ofCluster: root)..<boot.offset(ofCluster: root + 1))
        }
        let oracle = AllocationMap(byteCount: byteCount, unsorted: ranges)
        #expect(oracle.ranges.filter { !map.covers($0) } == [], comment)
        let excess = map.usedByteCount - min(map.usedByteCount, oracle.usedByteCount)
        #expect(excess * 200 <= byteCount, comment)
        print("\(comment): over-approximation \(percent(excess, of: byteCount))")

        let before = try ChildProcess.run(["fsck.fat", "-n", image.string])
        try spoilUnused(image, map)
        let after = try ChildProcess.run(["fsck.fat", "-n", image.string])
        #expect(after.succeeded && after.text == before.text, comment)

        let volume = try FATVolume(try BlockDevice(opening: image))
        for (name, bytes) in kept {
            #expect(try volume.readFile(name.uppercased(), limit: 1 << 20) == bytes, "\(comment): \(name)")
        }
        for name in files.keys where kept[name] == nil {
            #expect(throws: FilesystemError.self) { try volume.readFile(name, limit: 1 << 20) }
        }
    }

    /// All names in the tree of the test, including folders.
    private static func names(in bench: Workbench, _ folder: String = "") -> [String] {
        let path = folder.isEmpty ? bench.path("tree") : bench.path("tree").appending(folder)
        return Files.names(in: path).flatMap { name in
            let full = folder.isEmpty ? name : "\(folder)/\(name)"
            return [full] + names(in: bench, full)
        }
    }

    /// `::/name <2-9> <12>` …
    private static func clusters(in text: String) -> [(UInt64, UInt64)] {
        text.split(separator: "<").dropFirst().compactMap { part in
            let ends = part.prefix { $0 != ">" }.split(separator: "-").compactMap { UInt64($0) }
            guard let first = ends.first, let last = ends.last else { return nil }
            return (first, last)
        }
    }

    @Test(arguments: [12, 16, 32]) func filesAreReadByPath(bits: Int) throws {
        let bench = try Workbench()
        let image = try bench.systemPartition(bits: bits)
        let volume = try FATVolume(try BlockDevice(opening: image))
        #expect(try volume.entries(in: "").map(\.name) == ["EFI"])
        #expect(try volume.entries(in: "/efi/").map(\.name).sorted() == ["BOOT", "debian"])
        #expect(try volume.entries(in: "\\EFI\\BOOT").map(\.shortName) == ["BOOTX64.EFI"])
        #expect(try volume.readFile("/EFI/debian/Grub With A Long Name.CFG", limit: 100) == Array("hello".utf8))
        #expect(throws: FilesystemError.self) { try volume.readFile("/EFI/debian/grub with a long name.cfg", limit: 4) }
        #expect(throws: FilesystemError.self) { try volume.readFile("/EFI/debian", limit: 100) }
        #expect(throws: FilesystemError.self) { try volume.readFile("/EFI/none", limit: 100) }
        #expect(throws: FilesystemError.self) { try volume.entries(in: "/EFI/BOOT/BOOTX64.EFI") }
        #expect(throws: FilesystemError.self) { try FATVolume(MemoryDisk(byteCount: 4096)) }
    }

    @Test(arguments: [(16, 0x8000 as UInt32), (16, 0x4000), (32, 0x0800_0000), (32, 0x0400_0000)])
    func oneThatWasNotUnmountedIsTakenWhole(bits: Int, bit: UInt32) throws {
        let bench = try Workbench()
        let image = try bench.systemPartition(bits: bits)
        var bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 40 << 20)
        let boot = try #require(try FATBootSector(bytes))
        let place = Int(boot.offset(ofFAT: 0)) + bits / 8
        if bits == 16 {
            bytes.setLittleEndian(try bytes.littleEndian(UInt16.self, at: place) & ~UInt16(bit), at: place)
        } else {
            bytes.setLittleEndian(try bytes.littleEndian(UInt32.self, at: place) & ~bit, at: place)
        }
        let (info, map) = try VolumeIdentifier.survey(MemoryDisk(bytes))
        let isErrorBit = bit == 0x4000 || bit == 0x0400_0000
        #expect(
            info.wholeReason == (isErrorBit ? "it is marked as having disk errors" : "it was not cleanly unmounted"))
        #expect(info.isClean == false && map == .whole(byteCount: 40 << 20))
    }

    @Test func theBitThatLinuxSetsCounts() throws {
        let bench = try Workbench()
        for (bits, place) in [(12, 37), (16, 37), (32, 65)] {
            let image = try bench.systemPartition(bits: bits)
            let disk = try BlockDevice(opening: image)
            var bytes = try disk.readBytes(at: 0, count: Int(disk.byteCount))
            bytes[place] |= 1
            #expect(try VolumeIdentifier.survey(MemoryDisk(bytes)).0.wholeReason == "it was not cleanly unmounted")
        }
    }

    @Test func whatComesAfterTheFilesystemIsUsed() throws {
        let bench = try Workbench()
        let image = try bench.systemPartition(bits: 16)
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 40 << 20)
        let (_, map) = try VolumeIdentifier.survey(MemoryDisk(bytes + [UInt8](repeating: 7, count: 5000)))
        #expect(map.covers(40 << 20..<(40 << 20) + 5000))
        let (cut, _) = try VolumeIdentifier.survey(MemoryDisk(Array(bytes.dropLast(512))))
        #expect(cut.wholeReason == "it is larger than its partition")
    }
}
