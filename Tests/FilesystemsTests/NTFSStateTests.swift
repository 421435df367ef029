// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// States of an NTFS for which no map may be made, or for which one must be made nevertheless; and BitLocker.
@Suite(.enabled(if: Tool.have("mkntfs", "ntfscp"), "needs ntfs-3g")) struct NTFSStateTests {
    private static let byteCount = 16 << 20

    /// The bytes of a valid one with files in its root folder.
    private static func sound(_ bench: Workbench, files: [(String, [UInt8])] = []) throws -> [UInt8] {
        let image = try NTFSRecipe(byteCount: UInt64(byteCount), clusterSize: 4096).make(bench)
        for (name, bytes) in files {
            try bench.write(bytes, to: bench.path("file"))
            try Tool.run(["ntfscp", "-f", "-q", image.string, bench.path("file").string, name])
        }
        return try BlockDevice(opening: image).readBytes(at: 0, count: byteCount)
    }

    private static func boot(_ bytes: [UInt8]) throws -> NTFSBootSector {
        try #require(try NTFSBootSector(Array(bytes[..<512])))
    }

    /// The place of a record (one of the first 16, which are in one run).
    private static func record(_ number: Int, _ bytes: [UInt8]) throws -> Int {
        let boot = try boot(bytes)
        return Int(boot.mftCluster * boot.clusterSize) + number * Int(boot.recordSize)
    }

    /// The place of an attribute of a record.
    private static func attribute(_ type: UInt32, record number: Int, _ bytes: [UInt8]) throws -> Int {
        let start = try record(number, bytes)
        var offset = start + Int(try bytes.littleEndian(UInt16.self, at: start + 20))
        while try bytes.littleEndian(UInt32.self, at: offset) != type {
            try #require(try bytes.littleEndian(UInt32.self, at: offset) != .max)
            offset += Int(try bytes.littleEndian(UInt32.self, at: offset + 4))
        }
        return offset
    }

    private static func firstByte(ofFile number: UInt64, _ bytes: [UInt8]) throws -> Int {
        let table = try NTFSMasterFileTable(MemoryDisk(bytes), try boot(bytes))
        let data = try #require(try table.stream(of: try table.record(number), .data))
        return Int(try #require(data.ranges.first).lowerBound)
    }

    private func survey(_ bytes: [UInt8], skipPageFiles: Bool = false) throws -> (FilesystemInfo, AllocationMap) {
        try VolumeIdentifier.survey(MemoryDisk(bytes), skipPageFiles: skipPageFiles)
    }

    @Test func whatSpeaksAgainstAMapIsSaid() throws {
        let bench = try Workbench()
        let bytes = try Self.sound(bench)
        func reason(_ change: (inout [UInt8]) throws -> Void) throws -> String? {
            var changed = bytes
            try change(&changed)
            let (info, map) = try survey(changed)
            #expect(info.kind == .ntfs && (info.wholeReason == nil) == (map.usedByteCount < Self.byteCount))
            return info.wholeReason
        }
        #expect(try reason { _ in } == nil)
        let flags = try Self.attribute(0x70, record: 3, bytes) + 24 + 10
        #expect(try reason { $0[flags] = 1 } == "it is marked dirty")
        #expect(try reason { $0[flags + 1] = 0x40 } == "a check of it was begun and not ended")
        for bit in [1, 2, 5, 6, 7, 8, 15] {
            #expect(
                try reason { $0[flags + bit / 8] |= 1 << UInt8(bit % 8) }?.hasPrefix("its flags 0x") == true, "\(bit)")
        }
        #expect(try reason { $0[flags] = 0x18 } == nil)
        #expect(try reason { $0[flags - 1] = 2 } == "its version 3.2 is not known")
        let bitmap = try Self.firstByte(ofFile: 6, bytes)
        #expect(try reason { $0[bitmap] &= 0xFE } == "its allocation bitmap calls free what it uses itself")
        let data = try Self.attribute(0x80, record: 6, bytes)
        #expect(try reason { $0[data + 12] = 1 } == "the system file bitmap has no usual contents")
        // initialized_size
        #expect(try reason { $0.setLittleEndian(UInt64(8), at: data + 56) } == "its allocation bitmap is too short")
        // A partly written record.
        let second = try Self.record(6, bytes) + 510
        #expect(try reason { $0[second] ^= 0xFF } == "a FILE record that was written in part is not valid")
        #expect(try reason { $0[511] = 0 } == "its boot sector has no end marker")
        #expect(
            try survey(Array(bytes[..<(8 << 20)])).0.wholeReason == "it is larger than its partition")
        // Longer than the filesystem: the space behind counts as used.
        let (_, longer) = try survey(bytes + [UInt8](repeating: 1, count: 1 << 20))
        #expect(longer.covers(UInt64(Self.byteCount) - 512..<UInt64(Self.byteCount) + 1 << 20))
    }

    /// $MFTMirr replaces each of the first three records; the fourth contains the dirty flag,
    /// and its copy may be older.
    @Test func damagedFirstRecordsComeFromTheirCopy() throws {
        let bench = try Workbench()
        let bytes = try Self.sound(bench)
        let (sound, map) = try survey(bytes)
        #expect(sound.remarks == [])
        for number in 0...4 {
            var changed = bytes
            let start = try Self.record(number, bytes)
            changed.replaceSubrange(start..<start + 1024, with: repeatElement(0, count: 1024))
            if number == 3 {
                #expect(try survey(changed).0.mapSource == .whole)
            } else if number < 4 {
                let (info, same) = try survey(changed)
                #expect(info.wholeReason == nil && same == map && info.label == sound.label)
                #expect(info.remarks == ["has damaged file records; their copy in $MFTMirr was used"])
                // Not if the copy is bad too.
                let copy = Int(try Self.boot(bytes).mirrorCluster) * 4096 + number * 1024
                changed[copy] = 0
                #expect(try survey(changed).0.mapSource == .whole)
                // Nor is an unreadable sector a reason to refuse.
                let disk = MemoryDisk(bytes)
                disk.makeUnreadable(UInt64(start)..<UInt64(start) + 512)
                #expect(try VolumeIdentifier.survey(disk).1 == map)
            } else {
                // $AttrDef is not needed.
                #expect(try survey(changed).1 == map)
            }
        }
    }

    /// A bitmap in two parts, the second before the first (no tool makes one).
    @Test(.enabled(if: Tool.have("ntfscat", "ntfsresize"), "needs ntfs-3g")) func fragmentedBitmap() throws {
        let bench = try Workbench()
        let image = try NTFSRecipe(byteCount: UInt64(Self.byteCount), clusterSize: 512).make(bench)
        var bytes = try BlockDevice(opening: image).readBytes(at: 0, count: Self.byteCount)
        let (_, before) = try survey(bytes)
        let old = try Self.firstByte(ofFile: 6, bytes)
        var bitmap = Array(bytes[old..<old + 4096])
        for cluster in old / 512..<old / 512 + 8 { bitmap[cluster / 8] &= ~(1 << UInt8(cluster % 8)) }
        // 3 clusters at 30,000, 5 at 29,950.
        for cluster in Array(30_000..<30_003) + Array(29_950..<29_955) {
            #expect(bitmap[cluster / 8] >> UInt8(cluster % 8) & 1 == 0)
            bitmap[cluster / 8] |= 1 << UInt8(cluster % 8)
        }
        bytes.replaceSubrange(old..<old + 4096, with: repeatElement(0xDB, count: 4096))
        bytes.replaceSubrange(30_000 * 512..<30_003 * 512, with: bitmap[..<1536])
        bytes.replaceSubrange(29_950 * 512..<29_955 * 512, with: bitmap[1536...])
        let pairs = try Self.attribute(0x80, record: 6, bytes) + 64
        bytes.replaceSubrange(pairs..<pairs + 8, with: [0x21, 3, 0x30, 0x75, 0x11, 5, UInt8(bitPattern: -50), 0])
        let (info, map) = try survey(bytes)
        #expect(info.wholeReason == nil)
        var expected = before.complement
        expected.insert(UInt64(old)..<UInt64(old) + 4096)
        #expect(map.covers(30_000 * 512..<30_003 * 512) && map.covers(29_950 * 512..<29_955 * 512))
        #expect(map.complement.isSubset(of: expected) && map.usedByteCount == before.usedByteCount)
        try bench.write(bytes, to: image)
        let boot = try Self.boot(bytes)
        let theirs = try ExtractedBitmap(image, boot, volumeByteCount: UInt64(Self.byteCount)).used
        #expect(theirs.isSubset(of: map) && map.usedByteCount - theirs.usedByteCount == 512)
        try Tool.run(["ntfsresize", "--info", "--force", image.string])
    }

    @Test func aLogThatIsNotCleanIsNoGround() throws {
        let bench = try Workbench()
        let bytes = try Self.sound(bench)
        let log = try Self.firstByte(ofFile: 2, bytes)
        func reason(_ pages: [UInt8]) throws -> String? {
            var changed = bytes
            changed.replaceSubrange(log..<log + pages.count, with: pages)
            return try survey(changed).0.wholeReason
        }
        #expect(bytes[log] == 0xFF)
        #expect(try reason(HostileFixture.restartPages()) == nil)
        // Windows 2000: closed, no flag.
        #expect(try reason(HostileFixture.restartPages(inUse: .max, flags: 0)) == nil)
        let open = "its log holds changes not yet in place"
        #expect(try reason(HostileFixture.restartPages(flags: 0)) == open)
        #expect(try reason(HostileFixture.restartPages(flags: 1)) == open)
        let clean = HostileFixture.restartPages(sequenceNumbers: [77])
        // The later page counts, or both where they are equally old.
        #expect(try reason(clean + HostileFixture.restartPages(flags: 0, sequenceNumbers: [78])) == open)
        #expect(try reason(clean + HostileFixture.restartPages(flags: 0, sequenceNumbers: [77])) == open)
        #expect(try reason(clean + HostileFixture.restartPages(flags: 0, sequenceNumbers: [76])) == nil)
        #expect(
            try reason(HostileFixture.restartPages(major: 2, minor: 0))
                == "Windows did not dismount it: fast startup, hibernation, or it was pulled out")
        #expect(
            try reason(HostileFixture.restartPages(major: 1, minor: 2)) == "the version 1.2 of its log is not known")
        // One page torn or missing, zeros, any other bytes.
        var torn = HostileFixture.restartPages()
        torn[4096 + 1022] ^= 1
        let others: [[UInt8]] = [
            torn, clean, [UInt8](repeating: 0, count: 8192), Array("RCRD".utf8), [0xFE],
            Array("CHKD".utf8) + HostileFixture.restartPages()[4...],
        ]
        for pages in others { #expect(try reason(pages)?.hasPrefix("its log has no ") == true) }
    }

    /// A log that Linux emptied does not show whether the volume was dismounted: the files themselves are checked.
    @Test func aBitmapOlderThanTheFilesIsNotBelieved() throws {
        let bench = try Workbench()
        let content = [UInt8](repeating: 0x33, count: 50_000)
        var bytes = try Self.sound(bench, files: [("file", content)])
        #expect(try survey(bytes).0.wholeReason == nil)
        let first = try #require(stride(from: 0, to: bytes.count, by: 4096).first { bytes[$0] == 0x33 })
        let bitmap = try Self.firstByte(ofFile: 6, bytes)
        bytes[bitmap + first / 4096 / 8] &= ~(1 << UInt8(first / 4096 % 8))
        let reason = try #require(try survey(bytes).0.wholeReason)
        #expect(reason.hasPrefix("file record "))
        #expect(reason.hasSuffix(" uses cluster \(first / 4096), which its allocation bitmap calls free"))
        #expect(try VolumeIdentifier.survey(MemoryDisk(bytes), trustMaps: true).0.wholeReason == nil)
        // Nor are unreadable files.
        var torn = try Self.sound(bench, files: [("file", content)])
        let place = try #require(
            stride(from: try Self.record(24, torn), to: torn.count, by: 1024).first { start in
                torn[start..<start + 4].elementsEqual("FILE".utf8) && torn[start + 22] & 1 == 1
            })
        torn[place + 1022] ^= 1
        #expect(try survey(torn).0.wholeReason == "a FILE record that was written in part is not valid")
    }

    /// A file in so many pieces that further records list them, and that list is in clusters: each of its clusters has
    /// an owner, even where the table's own bitmap marks all records as free.
    @Test(.enabled(if: SystemFacts.isRoot && Tool.have("ntfs-3g", "losetup"), "needs root, loop devices and ntfs-3g"))
    func recordsThatExtendAFileAreOwners() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 40 << 20)
        try Tool.run(["mkntfs", "-F", "-f", "-Q", "-q", "-c", "4096", image.string])
        let piece = [UInt8](repeating: 0x33, count: 4096) + [UInt8](repeating: 0, count: 4096)
        try bench.write((0..<1200).flatMap { _ in piece }, to: bench.path("pieces"))
        try LoopedNTFS(bench, image).mounted("rw", "dd if=../pieces of=pieces bs=4096 conv=sparse status=none")
        let sound = try BlockDevice(opening: image).readBytes(at: 0, count: 40 << 20)
        #expect(try survey(sound).0.wholeReason == nil)
        let table = try NTFSMasterFileTable(MemoryDisk(sound), try Self.boot(sound))
        var (extending, lists) = ([] as [(record: UInt64, cluster: UInt64)], [] as [(record: UInt64, cluster: UInt64)])
        for number in 64..<200 as Range<UInt64> {
            guard let record = try? table.record(number) else { continue }
            for attribute in record.attributes {
                guard case .clusters(let part) = attribute.content else { continue }
                let runs = try NTFSRunList(only: part, clusterCount: try Self.boot(sound).clusterCount).runs
                guard let place = runs.compactMap(\.place).last else { continue }
                if attribute.type == 0x20 { lists.append((number, place)) }
                if record.baseNumber != 0 { extending.append((number, place)) }
            }
        }
        let bitmap = try Self.firstByte(ofFile: 6, sound)
        for owner in try [#require(extending.last), #require(lists.first)] {
            var bytes = sound
            bytes[bitmap + Int(owner.cluster) / 8] &= ~(1 << UInt8(owner.cluster % 8))
            // $MFT:$BITMAP, of which the first cluster has the bits of all these records.
            if case .clusters(let part)? = try table.record(0).attribute(.bitmap)?.content {
                let runs = try NTFSRunList(only: part, clusterCount: try Self.boot(sound).clusterCount).runs
                let place = Int(try #require(runs.first?.place)) * 4096
                bytes.replaceSubrange(place + 8..<place + 64, with: [UInt8](repeating: 0, count: 56))
            }
            #expect(
                try survey(bytes).0.wholeReason
                    == "file record \(owner.record) uses cluster \(owner.cluster), which its allocation bitmap calls free"
            )
        }
    }

    @Test func shadowCopiesAreMentioned() throws {
        let bench = try Workbench()
        var bytes = try Self.sound(bench)
        bytes.replaceSubrange(
            0x1E00..<0x1E10,
            with: [0x6B, 0x87, 0x08, 0x38, 0x76, 0xC1, 0x48, 0x4E, 0xB7, 0xAE, 0x04, 0x04, 0x6E, 0x6C, 0xC7, 0x52])
        // Without a catalog there are none.
        #expect(try survey(bytes).0.remarks == [])
        bytes.setLittleEndian(UInt64(0x40000), at: 0x1E30)
        let (info, _) = try survey(bytes)
        #expect(info.remarks.first?.hasPrefix("has shadow copies") == true && info.wholeReason == nil)
    }

    @Test func hibernationMakesItWhole() throws {
        let bench = try Workbench()
        func reason(_ head: String, name: String = "hiberfil.sys", byteCount: Int = 40_000) throws -> String? {
            let content = Array(head.utf8) + [UInt8](repeating: 0, count: byteCount - head.utf8.count)
            return try survey(try Self.sound(bench, files: [(name, content)])).0.wholeReason
        }
        let hibernated = "Windows is hibernated, or was shut down with fast startup"
        #expect(try reason("hibr") == hibernated)
        #expect(try reason("HIBR", name: "HiberFil.SYS") == hibernated)
        #expect(try reason("hibr", name: "hiberfil.sy") == nil)
        #expect(try reason("") == nil)
        #expect(try reason("wake") == nil)
        #expect(try reason("RSTR") == "its hiberfil.sys has an unknown signature")
        #expect(try reason("", byteCount: 100) == "it belongs to a Windows that is hibernated")
        #expect(try reason("", byteCount: 2000) == "it belongs to a Windows that is hibernated")
    }

    @Test func pageFilesAreSkippedOnRequest() throws {
        let bench = try Workbench()
        let page = [UInt8](repeating: 0x11, count: 1 << 20)
        let hibernation = [UInt8](repeating: 0, count: 4096) + [UInt8](repeating: 0x22, count: 500_000)
        var files = [("pagefile.sys", page), ("swapfile.sys", [1, 2, 3]), ("hiberfil.sys", hibernation)]
        let bytes = try Self.sound(bench, files: files)
        let (info, map) = try survey(bytes)
        let (skipping, less) = try survey(bytes, skipPageFiles: true)
        #expect(info.wholeReason == nil && info.remarks == [])
        #expect(skipping.remarks == ["has page files whose contents (1.4 MiB) are left out, as requested"])
        let ranges = try NTFSFilesystem.pageFileRanges(MemoryDisk(bytes))
        let expected = (1 << 20) - 65536 + (504_096 + 4095) / 4096 * 4096 - 65536
        #expect(ranges.reduce(0) { $0 + $1.byteCount } == expected)
        #expect(map.usedByteCount - less.usedByteCount == expected && less.isSubset(of: map))
        for range in ranges {
            #expect(less.ranges(in: range).isEmpty)
            #expect(bytes[Int(range.lowerBound)..<Int(range.lowerBound) + 4096].allSatisfy { $0 == 0x11 || $0 == 0x22 })
        }
        // The page that Windows checks for a hibernation image stays.
        let first = try #require(stride(from: 0, to: bytes.count, by: 4096).first { bytes[$0...].starts(with: page) })
        #expect(less.covers(UInt64(first)..<UInt64(first) + 65536))

        // Hibernated or dirty: nothing is skipped.
        files[2].1.replaceSubrange(0..<4, with: Array("hibr".utf8))
        let hibernated = try Self.sound(bench, files: files)
        #expect(try survey(hibernated, skipPageFiles: true).1.usedByteCount == UInt64(Self.byteCount))
        #expect(try NTFSFilesystem.pageFileRanges(MemoryDisk(hibernated)) == [])
        var dirty = bytes
        dirty[try Self.attribute(0x70, record: 3, bytes) + 24 + 10] = 1
        #expect(try NTFSFilesystem.pageFileRanges(MemoryDisk(dirty)) == [])
    }

    @Test func bitLockerIsWhole() throws {
        func header(_ jump: [UInt8], _ name: String, metadataAt place: Int?) -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            bytes.replaceSubrange(0..<3, with: jump)
            bytes.replaceSubrange(3..<11, with: Array(name.utf8))
            if let place {
                bytes.setLittleEndian(UInt64(65536), at: place)
                bytes.replaceSubrange(65536..<65544, with: Array("-FVE-FS-".utf8))
            }
            return bytes
        }
        let bench = try Workbench()
        for bytes in [
            header([0xEB, 0x52, 0x90], "-FVE-FS-", metadataAt: nil),
            header([0xEB, 0x58, 0x90], "-FVE-FS-", metadataAt: 176),
            header([0xEB, 0x58, 0x90], "MSWIN4.1", metadataAt: 440),
        ] {
            try bench.write(bytes, to: bench.path("image"))
            let (info, map) = try bench.survey("image")
            #expect(info.kind == .other && info.kindName == "BitLocker" && info.mapSource == .whole)
            #expect(info.wholeReason == "it is encrypted by BitLocker, and so copied whole")
            #expect(info.remarks == ["is encrypted, and so copied whole"])
            #expect(map == .whole(byteCount: 1 << 20))
        }
        let (info, _) = try survey(header([0xEB, 0x58, 0x90], "-FVE-FS-", metadataAt: nil))
        #expect(info.kind == .unknown)
    }

    /// BitLocker on a removable disk looks like a FAT.
    @Test(.enabled(if: Tool.have("mkfs.fat"), "needs dosfstools")) func bitLockerToGoIsNoFAT() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 40 << 20)
        try Tool.run(["mkfs.fat", "-F", "32", "-s", "1", image.string])
        let file = try FileDescriptor.open(image, .readWrite)
        defer { try? file.close() }
        _ = try file.writeAll(toAbsoluteOffset: 3, Array("MSWIN4.1".utf8))
        #expect(try bench.survey("image").0.kind == .fat32)
        _ = try file.writeAll(toAbsoluteOffset: 20 << 20, Array("-FVE-FS-".utf8))
        var place: [UInt8] = []
        place.appendLittleEndian(UInt64(20 << 20))
        _ = try file.writeAll(toAbsoluteOffset: 440, place)
        let (info, map) = try bench.survey("image")
        #expect(info.kindName == "BitLocker" && map == .whole(byteCount: 40 << 20))
    }
}
