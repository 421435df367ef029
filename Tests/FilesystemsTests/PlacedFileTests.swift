// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

/// Files located by Reforge's own readers: their bytes lie where it says, and what cannot be changed in place is refused.
struct PlacedFileTests {
    /// A file's bytes, read from the image at the places that were found.
    private static func gathered(_ file: PlacedFile, _ disk: BlockDevice) throws -> [UInt8] {
        let places = try #require(file.places(of: 0..<file.bytes.count))
        return try places.flatMap { try disk.readBytes(at: $0.lowerBound, count: Int($0.byteCount)) }
    }

    @Test(
        .enabled(
            if: SystemFacts.isRoot && Files.exists("/dev/fuse")
                && Tool.have("mkntfs", "ntfs-3g", "losetup", "setfattr"),
            "needs root, FUSE, ntfs-3g and attr"),
        arguments: [4096, 512, 65536])
    func filesOfNTFS(clusterSize: Int) throws {
        let bench = try Workbench()
        let image = try NTFSRecipe(byteCount: 64 << 20, clusterSize: clusterSize).make(bench)
        var random = Sample.generator(clusterSize)
        let contents = (0..<300_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try bench.write(contents, to: bench.path("contents"))
        // Many names, so that the folder's index is a tree; a file in the gaps that others left.
        try LoopedNTFS(bench, image).mounted(
            "rw,compression",
            """
            mkdir -p Windows/System32/config Windows/System32/drivers
            cd Windows/System32/drivers; for n in $(seq 1 700); do echo $n > "driver with a long name $n.sys"; done; cd ../config
            cp ../../../../contents SYSTEM
            for n in $(seq 200); do head -c 8192 ../../../../contents > ../piece$n; done
            cat /dev/zero > ../filler 2> /dev/null
            for n in $(seq 1 2 200); do rm ../piece$n; done
            cp ../../../../contents PARTS
            rm ../filler
            echo short > SHORT
            truncate -s 1M HOLES; dd if=../../../../contents of=HOLES bs=4096 count=1 conv=notrunc status=none
            mkdir packed && setfattr -h -n system.ntfs_attrib_be -v 0x00000800 packed
            head -c 200000 /dev/zero > packed/ZEROS
            """)
        let disk = try BlockDevice(opening: image)
        let volume = try NTFSVolume(disk)
        #expect(try volume.obstacleToChanges() == nil)
        let file = try #require(try volume.placedFile("\\windows\\SYSTEM32/Config/system", limit: 1 << 20))
        let fileIsThere = try file.bytes == contents && Self.gathered(file, disk) == contents
        #expect(fileIsThere)
        let parts = try #require(try volume.placedFile("\\Windows\\System32\\config\\parts", limit: 1 << 20))
        let partsIsThere = try parts.bytes == contents && Self.gathered(parts, disk) == contents
        #expect(partsIsThere)
        #expect((parts.places(of: 0..<contents.count)?.count ?? 0) > 1)
        for _ in 0..<100 {
            let start = Int.random(in: 0..<contents.count - 200, using: &random)
            let part = start..<start + Int.random(in: 0...200, using: &random)
            let places = try #require(parts.places(of: part))
            #expect(
                try places.flatMap { try disk.readBytes(at: $0.lowerBound, count: Int($0.byteCount)) }
                    == Array(contents[part]))
        }
        #expect(parts.places(of: 0..<contents.count + 1) == nil)
        func reason(_ path: String) throws -> String? {
            do throws(FilesystemError) {
                _ = try volume.placedFile("\\Windows\\System32\\config\\\(path)", limit: 1 << 20)
                return nil
            } catch {
                guard case .unchangeable(_, let reason) = error else { throw error }
                return reason
            }
        }
        #expect(try reason("SHORT") == "stored in the master file table")
        #expect(try reason("HOLES") == "sparse")
        #expect(try reason("packed\\ZEROS") == (clusterSize > 4096 ? nil : "compressed"))
        #expect(try volume.placedFile("\\Windows\\System32\\config\\SOFTWARE", limit: 1 << 20) == nil)
        #expect(try volume.readFile("\\Windows\\System32\\config\\SHORT", limit: 10) == Array("short\n".utf8))
        #expect(throws: FilesystemError.self) {
            try volume.placedFile("\\Windows\\System32\\config\\SYSTEM", limit: 1000)
        }
        #expect(throws: FilesystemError.self) { try volume.placedFile("\\Windows\\System32", limit: 1000) }
        for number in [1, 350, 700] {
            #expect(try volume.exists("\\Windows\\System32\\drivers\\DRIVER WITH A LONG NAME \(number).sys"))
        }
        #expect(try !volume.exists("\\Windows\\System32\\drivers\\driver with a long name 701.sys"))
        #expect(try !volume.exists("\\Windows\\System32\\config\\SYSTEM\\x"))
    }

    /// Encrypted, in part uninitialised, and reparse points: no tool makes them here.
    @Test(.enabled(if: Tool.have("mkntfs", "ntfscp"), "needs ntfs-3g")) func flagsOfNTFS() throws {
        let bench = try Workbench()
        let image = try NTFSRecipe(byteCount: 16 << 20, clusterSize: 4096).make(bench)
        try bench.write([UInt8](repeating: 7, count: 10_000), to: bench.path("file"))
        try Tool.run(["ntfscp", "-f", "-q", image.string, bench.path("file").string, "SYSTEM"])
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 16 << 20)
        let table = try NTFSMasterFileTable(MemoryDisk(bytes), try #require(try NTFSBootSector(Array(bytes[..<512]))))
        let record = try #require(try NTFSFolder(table, lookingFor: ["system"]).record("system"))
        let start = Int(table.boot.mftCluster) * 4096 + Int(record.number * table.boot.recordSize)
        var offset = start + Int(try bytes.littleEndian(UInt16.self, at: start + 20))
        while try bytes.littleEndian(UInt32.self, at: offset) != 0x80 {
            offset += Int(try bytes.littleEndian(UInt32.self, at: offset + 4))
        }
        func reason(_ change: (inout [UInt8]) -> Void) throws -> String? {
            var changed = bytes
            change(&changed)
            do throws(FilesystemError) {
                _ = try NTFSVolume(MemoryDisk(changed)).placedFile("SYSTEM", limit: 1 << 20)
                return nil
            } catch {
                guard case .unchangeable(_, let reason) = error else { return error.description }
                return reason
            }
        }
        #expect(try reason { _ in } == nil)
        // The flag that ntfsresize sets is no obstacle; an unfinished check is one.
        func obstacle(_ flags: UInt16) throws -> String? {
            var changed = bytes
            let volume = Int(table.boot.mftCluster) * 4096 + 3 * Int(table.boot.recordSize)
            var place = volume + Int(try bytes.littleEndian(UInt16.self, at: volume + 20))
            while try bytes.littleEndian(UInt32.self, at: place) != 0x70 {
                place += Int(try bytes.littleEndian(UInt32.self, at: place + 4))
            }
            changed.setLittleEndian(flags, at: place + 24 + 10)
            return try NTFSVolume(MemoryDisk(changed)).obstacleToChanges()
        }
        #expect(try obstacle(0) == nil && obstacle(1) == nil)
        #expect(try obstacle(0x4001) == "a check of it was begun and not ended")
        #expect(try reason { $0.setLittleEndian(0x4000 as UInt16, at: offset + 12) } == "encrypted")
        #expect(try reason { $0.setLittleEndian(0x0001 as UInt16, at: offset + 12) } == "compressed")
        #expect(try reason { $0.setLittleEndian(0x8000 as UInt16, at: offset + 12) } == "sparse")
        #expect(try reason { $0.setLittleEndian(0x0100 as UInt16, at: offset + 12) } == "stored in an unknown way")
        #expect(try reason { $0.setLittleEndian(9000 as UInt64, at: offset + 56) } == "not written to its end")
    }

    @Test(.enabled(if: Tool.have("mkfs.fat", "mcopy", "mmd"), "needs dosfstools and mtools"), arguments: [12, 16, 32])
    func filesOfFAT(bits: Int) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("fat", byteCount: bits == 12 ? 4 << 20 : 64 << 20)
        try Tool.run(["mkfs.fat", "-F", "\(bits)"] + (bits == 32 ? ["-s", "1"] : []) + [image.string])
        var random = Sample.generator(bits)
        let contents = (0..<40_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try bench.write(contents, to: bench.path("BCD"))
        try bench.write([UInt8](repeating: 1, count: 9000), to: bench.path("filler"))
        // Freed clusters between used ones: the file comes into several parts.
        for index in 0..<8 { try Tool.run(["mcopy", "-i", image.string, bench.path("filler").string, "::f\(index)"]) }
        for index in [1, 3, 5] { try Tool.run(["mdel", "-i", image.string, "::f\(index)"]) }
        for folder in ["EFI", "EFI/Microsoft", "EFI/Microsoft/Boot"] {
            try Tool.run(["mmd", "-i", image.string, "::\(folder)"])
        }
        try Tool.run(["mcopy", "-i", image.string, bench.path("BCD").string, "::EFI/Microsoft/Boot/BCD"])
        let disk = try BlockDevice(opening: image)
        let volume = try FATVolume(disk)
        let file = try #require(try volume.placedFile("\\EFI\\MICROSOFT\\boot\\bcd", limit: 1 << 20))
        let fileIsThere = try file.bytes == contents && Self.gathered(file, disk) == contents
        #expect(fileIsThere)
        #expect((file.places(of: 0..<contents.count)?.count ?? 0) > 1)
        #expect(try volume.placedFile("\\EFI\\Microsoft\\Boot\\BCD.LOG", limit: 100) == nil)
        #expect(try volume.placedFile("\\EFI\\Microsoft\\Boot", limit: 100) == nil)
        #expect(try volume.exists("\\EFI\\Microsoft\\Boot") && !volume.exists("\\EFI\\x\\y"))
    }
}
