// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage
import TestSupport
import Testing

@Suite struct KnownImageTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    private func identify(_ bytes: [UInt8], as name: String = "disk.raw") throws -> KnownImage? {
        let path = scratch.path.appending(name)
        try Files.write(bytes, to: path)
        return try KnownImage.identify(fileAt: path)
    }

    private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

    @Test func namesImagesByTheirFirstBytes() throws {
        let starts: [(String, [UInt8], KnownImage.Kind)] = [
            ("a qcow2 image", [0x51, 0x46, 0x49, 0xFB], .foreign), ("a VHDX image", Array("vhdxfile".utf8), .foreign),
            ("a zstd file", [0x28, 0xB5, 0x2F, 0xFD], .image),
            ("an xz file", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], .image),
            ("a Reforge image", [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0] + Array("RFIMGHDR".utf8), .image),
            ("an encrypted Reforge image", Array("RFIMGENC".utf8), .image),
        ]
        for (name, start, kind) in starts {
            let found = try #require(try identify(start + zeros(4096)), "\(name)")
            #expect(found.name == name && found.kind == kind)
        }
        #expect(try identify(zeros(64) + [0x7F, 0x10, 0xDA, 0xBE] + zeros(500))?.name == "a VDI image")
    }

    @Test func namesImagesByTheirEndsAndNames() throws {
        #expect(try identify(zeros(4096) + Array("conectix".utf8) + zeros(504))?.name == "a VHD image")
        let damaged = try #require(try identify(zeros(4096), as: "a.img.zst"))
        #expect(damaged.kind == .image)
    }

    @Test func takesDisksForDisks() throws {
        #expect(try identify([]) == nil)
        #expect(try identify([], as: "new.img.zst") == nil)
        #expect(try identify([0x51]) == nil)
        #expect(try identify(zeros(1 << 20)) == nil)
        // A tag that is not at the end of the file does not count.
        #expect(try identify(zeros(100) + Array("conectix".utf8) + zeros(4096)) == nil)
        #expect(try identify([0xEB, 0x63, 0x90] + zeros(507) + [0x55, 0xAA] + zeros(4096)) == nil)
    }

    @Test func filesOfARepositoryAreNoDisks() throws {
        let repository = scratch.path.appending("repo")
        _ = try Repository.create(in: LocalStore(repository), chunkByteCount: 64 << 10, keys: nil)
        let pack = repository.appending("packs/ab/abcd")
        try Files.makeFolders(pack.removingLastComponent())
        try Files.write(zeros(4096), to: pack)
        #expect(try KnownImage.identify(fileAt: pack)?.kind == .repositoryFile)
        // A foreign file in the folder is no part of the repository.
        let beside = repository.appending("disk.raw")
        try Files.write(zeros(4096), to: beside)
        #expect(try KnownImage.identify(fileAt: beside) == nil)
    }
}
