// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages
@testable import Operations

/// Folders of a made-up tool: a disk with two partitions by a table of files named in the test.
@Suite struct ImportTests {
    /// A folder `NAME.toy`, with the raw disk `disk` beside the streams that its parts are read from.
    private static func register() {
        FolderFormat.table.register(
            FolderFormat(
                name: "toy",
                recognize: { path throws(ImageError) in path.lastComponent?.string.hasSuffix(".toy") ?? false },
                disks: { _ throws(ImageError) in ["a"] },
                open: { path, name throws(ImageError) in try toy(path, name) }))
    }

    private static let registered: Void = register()
    private static let byteCount: UInt64 = 40 << 20
    /// The volume is in three places, of which the second one comes first on the disk if `isSwapped`.
    private static let places: [ByteRange] = [1 << 20..<9 << 20, 9 << 20..<10 << 20, 12 << 20..<20 << 20]

    private static func toy(_ path: FilePath, _ name: String) throws(ImageError) -> ForeignDisk {
        let isSwapped = Files.exists(path.appending("swapped"))
        let places = isSwapped ? [Self.places[0], Self.places[2], Self.places[1]] : Self.places
        var parts = [
            ForeignPart(
                label: "vg/root", segments: places,
                content: .stream(PieceStream([path.appending("root.img.gz")]), .probe))
        ]
        if Files.exists(path.appending("missing")) {
            parts.append(
                ForeignPart(
                    label: "vg/home", segments: [10 << 20..<12 << 20],
                    content: .missing(reason: "there is no file for it")))
        }
        return ForeignDisk(
            name: path.string, format: "toy", geometry: DiskGeometry(byteCount: byteCount),
            identity: DiskIdentity(path: path.string, transport: "file"),
            fixed: [ForeignBytes(offset: 0, bytes: [UInt8](repeating: 0x5A, count: 4096))], parts: parts,
            warnings: ["the toy proves nothing"], files: [path.appending("root.img.gz")])
    }

    private struct Toy {
        let scratch: ScratchFolder
        let folder: FilePath
        /// The bytes of the disk.
        let disk: [UInt8]

        init(isSwapped: Bool = false, isMissing: Bool = false) throws {
            _ = ImportTests.registered
            scratch = try ScratchFolder()
            folder = scratch.path.appending("folder.toy")
            try Files.makeFolders(folder)
            var random = SeededGenerator(seed: 5)
            let count = Int(ImportTests.places.reduce(0) { $0 + $1.byteCount })
            var volume = [UInt8](repeating: 0, count: count)
            for index in stride(from: 0, to: count, by: 8) { volume.setLittleEndian(random.next(), at: index) }
            // A hole of zeros in the middle.
            volume.replaceSubrange(3 << 20..<4 << 20, with: [UInt8](repeating: 0, count: 1 << 20))
            try Files.write(volume, to: folder.appending("root.img"))
            let packed = try ChildProcess.run(["gzip", "-1", folder.appending("root.img").string])
            try #require(packed.succeeded)
            if isSwapped { try Files.write([], to: folder.appending("swapped")) }
            if isMissing { try Files.write([], to: folder.appending("missing")) }
            var disk = [UInt8](repeating: 0, count: Int(ImportTests.byteCount))
            disk.replaceSubrange(0..<4096, with: [UInt8](repeating: 0x5A, count: 4096))
            var start = 0
            let order = isSwapped ? [0, 2, 1] : [0, 1, 2]
            for place in order.map({ ImportTests.places[$0] }) {
                let end = start + Int(place.byteCount)
                disk.replaceSubrange(Int(place.lowerBound)..<Int(place.upperBound), with: volume[start..<end])
                start = end
            }
            self.disk = disk
        }

        func run(_ change: (inout ImportJob) -> Void = { _ in }) throws -> ImportReport {
            var job = ImportJob(source: folder.string, destination: scratch.path.appending("out.img.zst").string)
            change(&job)
            let events = KeptEvents()
            return try ImportOperation(job, keys: KeyRing(FixedPassword(), events, Cancellation()), events: events)
                .run()
        }

        func imported() throws -> [UInt8] {
            let image = scratch.path.appending("out.img.zst")
            let output = try ChildProcess.run(["sh", "-c", "zstd -q -d -f '\(image)' -o '\(image).raw'"])
            try #require(output.succeeded, "\(output.lastWords)")
            return try Files.read(FilePath("\(image).raw"), limit: 1 << 30)
        }
    }

    @Test(arguments: [false, true]) func aVolumeInSeveralPlacesIsImported(isSwapped: Bool) throws {
        let toy = try Toy(isSwapped: isSwapped)
        let report = try toy.run()
        #expect(report.outcome.status == .done)
        #expect(report.disks.first?.warnings.contains("the toy proves nothing") == true)
        #expect(try toy.imported() == toy.disk)
    }

    @Test func aPartWithoutAnImageIsRefusedOrLost() throws {
        let toy = try Toy(isMissing: true)
        #expect {
            _ = try toy.run()
        } throws: { error in
            let failure = JobFailure(error, cancellation: Cancellation())
            return failure.status == .badImage && failure.message.contains("vg/home")
        }
        let report = try toy.run { $0.salvages = true }
        #expect(report.outcome.status == .badImage)
        #expect(report.disks.first?.lost == [10 << 20..<12 << 20])
        // Nothing but the missing part is lost, although its chunk holds a part of the other volume.
        #expect(try toy.imported() == toy.disk)
        let image = try OpenedImage.open(
            toy.scratch.path.appending("out.img.zst").string, KeyRing(FixedPassword(), KeptEvents(), Cancellation()))
        #expect(image.ending?.lateFacts.unreadable == [10 << 20..<12 << 20])
    }

    /// Only the end of the stream shows this damage: none of its bytes are known to be right.
    @Test(arguments: [false, true]) func nothingOfAStreamIsTakenThatIsFoundDamagedAtItsEnd(inScratch: Bool) throws {
        let toy = try Toy()
        let packed = toy.folder.appending("root.img.gz")
        var bytes = try Files.read(packed, limit: 1 << 30)
        // Random bytes are stored as they are, so that the flipped one is decompressed without an error.
        bytes[bytes.count * 3 / 4] ^= 1
        try Files.remove(packed)
        try Files.write(bytes, to: packed)
        let scratch = inScratch ? toy.scratch.path.string : nil
        #expect(throws: (any Error).self) { try toy.run { $0.scratch = scratch } }
        let report = try toy.run { ($0.salvages, $0.scratch) = (true, scratch) }
        #expect(report.outcome.status == .badImage)
        let lost = AllocationMap(byteCount: Self.byteCount, unsorted: report.disks.first?.lost ?? [])
        for place in Self.places { #expect(lost.covers(place)) }
        let imported = try toy.imported()
        #expect(imported.prefix(4096) == toy.disk.prefix(4096))
        #expect(imported[(1 << 20)...].allSatisfy { $0 == 0 })
    }

    /// A part without an image is served as unreadable: a client that asks for holes must not take it for zeros.
    @Test func aPartWithoutAnImageIsNotServedAsZeros() throws {
        let toy = try Toy(isMissing: true)
        let keys = KeyRing(FixedPassword(), KeptEvents(), Cancellation())
        let source = try ServedSource.open(toy.folder.string, keys, scratch: .folder(toy.scratch.path))
        let lost: ByteRange = 10 << 20..<12 << 20
        #expect(source.unreadable == [lost])
        #expect(try source.disk.readBytes(at: 0, count: 4096) == Array(toy.disk.prefix(4096)))
        #expect(try source.disk.extents(in: lost).allSatisfy { $0.kind == .data })
        #expect(throws: BlockIOError.self) { try source.disk.readBytes(at: lost.upperBound - 512, count: 512) }
        #expect(try source.disk.readBytes(at: 12 << 20, count: 4096) == Array(toy.disk[(12 << 20)...].prefix(4096)))
    }

    /// Images of partclone compressed by zstd count as images, which --overwrite replaces.
    @Test func aFileOfTheSourceIsNotReplaced() throws {
        let toy = try Toy()
        let own = toy.folder.appending("sda1.ext4-ptcl-img.zst")
        let packed = try ChildProcess.run(["sh", "-c", "echo content | zstd -q > '\(own)'"])
        try #require(packed.succeeded)
        let before = try Files.read(own)
        let error = #expect(throws: JobFailure.self) {
            try toy.run { ($0.destination, $0.overwrites) = (own.string, true) }
        }
        #expect(error?.status == .refused && error?.message.contains("belongs to") == true)
        #expect(try Files.read(own) == before)
    }

    /// The files of a folder, and later pieces, can look like blank disks.
    @Test func aFileOfTheSourceIsNoTarget() throws {
        let scratch = try ScratchFolder()
        let folder = scratch.path.appending("saved")
        try Files.makeFolders(folder)
        let names = ["sda1.dd-img", "disk.img.gz.aa", "disk.img.gz.ab"]
        for name in names { try Files.write([UInt8](repeating: 0, count: 4096), to: folder.appending(name)) }
        try Files.write([UInt8](repeating: 0, count: 4096), to: scratch.path.appending("target"))
        func refusal(_ target: FilePath, _ image: FilePath) throws -> String? {
            do {
                try TargetGuard.refuseDanger(
                    try OpenedDisk(target.string, .readOnly), image: image, KeptEvents(), Cancellation())
                return nil
            } catch let failure as JobFailure { return failure.message }
        }
        #expect(try refusal(folder.appending(names[0]), folder)?.contains("holds the image") == true)
        #expect(
            try refusal(folder.appending(names[2]), folder.appending(names[1]))?.contains("holds the image") == true)
        #expect(try refusal(folder.appending(names[0]), folder.appending(names[1])) == nil)
        #expect(try refusal(scratch.path.appending("target"), folder) == nil)
    }

    @Test func aChangedFileIsNoticed() throws {
        let toy = try Toy()
        let path = toy.folder.appending("root.img.gz")
        let contents = try ForeignContents(try Self.toy(toy.folder, "a"), Cancellation())
        _ = try contents.readBytes(at: 1 << 20, count: 4096)
        let changed = try ChildProcess.run(["sh", "-c", "printf x >> '\(path)'"])
        try #require(changed.succeeded)
        #expect(throws: ImageError.self) { try contents.confirmEnd() }
    }
}
