// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages

/// The headers of virtual machines' disk images, as QEMU makes them, damaged and hostile.
@Suite(.enabled(if: ChildProcess.canFind("qemu-img"), "needs qemu-img")) struct VirtualHeaderTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    static let size: UInt64 = 4 << 20

    /// The arguments of `qemu-img create`, and the format.
    static let images: [(String, VirtualHeader.Format)] = [
        ("-f qcow2", .qcow2), ("-f qcow2 -o compat=0.10", .qcow2), ("-f qcow2 -o compression_type=zstd", .qcow2),
        ("-f qcow2 -o extended_l2=on", .qcow2), ("-f vmdk", .vmdk), ("-f vmdk -o subformat=streamOptimized", .vmdk),
        ("-f vmdk -o subformat=twoGbMaxExtentSparse", .vmdk), ("-f vmdk -o subformat=twoGbMaxExtentFlat", .vmdk),
        ("-f vmdk -o subformat=monolithicFlat", .vmdk), ("-f vhdx", .vhdx), ("-f vhdx -o subformat=fixed", .vhdx),
        ("-f vdi", .vdi), ("-f vdi -o static=on", .vdi), ("-f vpc -o force_size=on", .vhd),
        ("-f vpc -o subformat=fixed,force_size=on", .vhd),
    ]

    private func make(_ arguments: String, _ name: String = "disk") throws -> FilePath {
        let path = scratch.path.appending(name)
        let words = arguments.split(separator: " ").map(String.init)
        let made = try ChildProcess.run(["qemu-img", "create", "-q"] + words + [path.string, "\(Self.size)"])
        try #require(made.succeeded, "\(made.lastWords)")
        return path
    }

    @Test(arguments: images) func eachIsRead(arguments: String, format: VirtualHeader.Format) throws {
        let header = try VirtualHeader.read(BlockDevice(opening: try make(arguments)))
        #expect(header.format == format && header.byteCount == Self.size)
        #expect(header.backing == nil && header.dataFile == nil && !header.hasLog)
        #expect((header.plainByteCount != nil) == arguments.contains("vpc -o subformat=fixed"))
    }

    /// No header traps; and where it has checksums, none reads as another one.
    @Test(arguments: images) func damageIsFound(arguments: String, format: VirtualHeader.Format) throws {
        let file = try Files.read(try make(arguments), limit: 1 << 30)
        let whole = try VirtualHeader.read(MemoryDisk(file))
        var places = Set(0..<min(file.count, 700))
        if format == .vhd { places.formUnion(max(0, file.count - 512)..<file.count) }
        if format == .vhdx {
            for start in [64 << 10, 128 << 10, 192 << 10, 256 << 10] { places.formUnion(start..<start + 200) }
        }
        let hasChecksums = format == .vhd || format == .vhdx
        var random = SeededGenerator(seed: Sample.seed())
        for place in places where place < file.count {
            var damaged = file
            damaged[place] ^= UInt8.random(in: 1...255, using: &random)
            guard let read = try? VirtualHeader.read(MemoryDisk(damaged)) else { continue }
            guard hasChecksums, place != 0, read.format == format else { continue }
            #expect(read == whole, "byte \(place)")
        }
        for count in stride(from: 0, to: min(file.count, 1 << 20), by: 509) {
            _ = try? VirtualHeader.read(MemoryDisk(Array(file.prefix(count))))
        }
    }

    @Test func whatCannotBeReadIsRefusedByName() throws {
        func patched(_ arguments: String, _ offset: Int, _ bytes: [UInt8]) throws -> MemoryDisk {
            var file = try Files.read(try make(arguments), limit: 1 << 30)
            file.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            return MemoryDisk(file)
        }
        func expect(_ says: String, _ disk: MemoryDisk) {
            do {
                _ = try VirtualHeader.read(disk)
                Issue.record("read, in spite of: \(says)")
            } catch { #expect("\(error)".contains(says), "\(error)") }
        }
        expect("encrypted", try patched("-f qcow2", 35, [2]))
        expect("features that are not known", try patched("-f qcow2", 78, [0x80]))
        expect("marked as corrupt", try patched("-f qcow2", 79, [2]))
        expect("version 1", try patched("-f qcow2", 7, [1]))
        expect("snapshot of another VDI", try patched("-f vdi", 440, [1]))
        expect("data file", try patched("-f qcow2", 79, [4]))
        expect("one part of a VMDK", try patched("-f vmdk", 28, [0]))
        expect("checksum", try patched("-f vpc -o force_size=on", 30, [1]))
    }

    @Test func theLogOfAVHDXIsSeen() throws {
        var file = try Files.read(try make("-f vhdx"), limit: 1 << 30)
        for start in [64 << 10, 128 << 10] {
            file[start + 48] = 1
            var head = Array(file[start..<start + 4096])
            head.replaceSubrange(4..<8, with: [0, 0, 0, 0])
            let checksum = CRC32.castagnoli.checksum(head)
            for index in 0..<4 { file[start + 4 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index))) }
        }
        #expect(try VirtualHeader.read(MemoryDisk(file)).hasLog)
    }

    @Test func aDescriptionOfAVMDKIsRead() throws {
        let text = """
            # Disk DescriptorFile
            version=1
            CID=0a1b2c3d
            parentCID=ffffffff
            createType="twoGbMaxExtentSparse"

            # Extent description
            RW 4192256 SPARSE "disk-s001.vmdk"
            RDONLY 64 ZERO
            RW 2048 FLAT "a b.vmdk" 128
            ddb.adapterType = "ide"
            """
        let header = try VirtualHeader.read(MemoryDisk(Array(text.utf8)))
        #expect(header.byteCount == (4_192_256 + 64 + 2048) * 512)
        #expect(
            header.extents == [
                VMDKExtent(kind: .sparse, sectorCount: 4_192_256, name: "disk-s001.vmdk"),
                VMDKExtent(kind: .zero, sectorCount: 64),
                VMDKExtent(kind: .flat, sectorCount: 2048, name: "a b.vmdk", offset: 128),
            ])
        for wrong in [
            "RW 0 ZERO", "RW 9999999999999999999 ZERO", "RW 1 FLAT \"x\"", "RW 1 SPARSE x", "RW 1 SPARSE \"x\" 3",
            "NOACCESS 1 FLAT \"x\" 0", "RW 1 VMFSRDM \"x\" 0", "CID=xyz", "encryption.keySafe = \"x\"",
            "parentCID=12345678",
        ] {
            #expect(throws: ImageError.self) {
                try VirtualHeader.read(MemoryDisk(Array("\(text)\n\(wrong)\n".utf8)))
            }
        }
    }
}
