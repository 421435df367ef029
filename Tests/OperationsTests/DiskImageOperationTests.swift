// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskImages
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Imaging
@testable import Operations

/// Disks in files of other formats, restored like an image of Reforge: with resizing; and formats that are added by rows alone.
@Suite struct DiskImageOperationTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private var keys: KeyRing { KeyRing(FixedPassword(bytes: nil), events, Cancellation()) }

    /// A disk of 24 MiB in the file `plain`: a GPT, raw bytes in partition 1, and an ext4 with a file in partition 2, which is
    /// last, so that it grows.
    private func makeDisk() throws -> [UInt8] {
        let part = path("part")
        try Files.write([UInt8](repeating: 0, count: 16 << 20), to: FilePath(part))
        try Files.write(Array("contents\n".utf8), to: scratch.path.appending("file"))
        try run(["mke2fs", "-q", "-F", "-t", "ext4", part])
        try run(["debugfs", "-w", "-R", "write \(path("file")) file", part])
        var random = SeededGenerator(seed: 11)
        var bytes = [UInt8](repeating: 0, count: 24 << 20)
        for index in 1 << 20..<3 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) & 0x1F }
        bytes.replaceSubrange(6 << 20..<22 << 20, with: try Files.read(FilePath(part), limit: 1 << 30))
        try Files.write(bytes, to: scratch.path.appending("plain"))
        let table = "label: gpt\nstart=2048, size=8192\nstart=12288, size=32768, type=L\n"
        let made = try ChildProcess.run(["sfdisk", "-q", path("plain")], input: Array(table.utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        return try Files.read(scratch.path.appending("plain"), limit: 1 << 30)
    }

    private func run(_ arguments: [String]) throws {
        let output = try ChildProcess.run(arguments)
        try #require(output.succeeded, "\(arguments): \(output.lastWords)")
    }

    private func shell(_ command: String) throws {
        try run(["sh", "-c", "set -e; cd '\(scratch.path)'; \(command)"])
    }

    /// Restores onto a file full of junk.
    private func restore(
        _ image: String, _ byteCount: Int, layout: String = "keep", scratch folder: String? = nil
    ) throws -> (target: String, bytes: [UInt8], report: RestoreReport) {
        let target = path("target")
        try Files.write(
            (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }, to: FilePath(target))
        var job = RestoreJob(image: image, disk: target)
        (job.isConfirmed, job.layout, job.verifies, job.scratch) = (true, layout, true, folder)
        let report = try RestoreOperation(job, keys: keys, events: events, confirmer: NoConfirmer()).run()
        #expect(report.diskState == .complete && report.incomplete.isEmpty)
        return (target, try Files.read(FilePath(target), limit: 1 << 30), report)
    }

    private static let formats = [
        ("disk.img", "cp plain disk.img"), ("disk.img.xz", "xz -1 -c plain > disk.img.xz"),
        ("disk.img.zst", "zstd -q -c plain > disk.img.zst"),
    ]

    /// On a disk of the same size, the result equals that of a capture of the same disk.
    @Test(arguments: formats) func aDiskInAFileComesBack(name: String, recipe: String) throws {
        _ = try makeDisk()
        try shell(recipe)
        _ = try CaptureOperation(
            CaptureJob(disk: path("plain"), image: path("captured.img.zst")), keys: keys, events: events,
            toolVersion: "test"
        ).run()
        let captured = try restore(path("captured.img.zst"), 24 << 20)
        let restored = try restore(path(name), 24 << 20)
        let difference = restored.bytes.indices.first { restored.bytes[$0] != captured.bytes[$0] }
        #expect(difference == nil)
        // Unused parts of the target are unchanged.
        #expect(restored.bytes[20 << 20] == UInt8(truncatingIfNeeded: (20 << 20) &* 7 &+ 1))
        let verified = try VerifyOperation(VerifyJob(image: path(name)), keys: keys, events: events).run()
        #expect(verified.isWhole)
    }

    @Test(arguments: formats) func itGrowsWithALargerDisk(name: String, recipe: String) throws {
        _ = try makeDisk()
        try shell(recipe)
        let grown = try restore(path(name), 48 << 20, layout: "grow")
        let checked = try ChildProcess.run(["e2fsck", "-fn", "\(grown.target)?offset=\(6 << 20)"])
        #expect(checked.succeeded, "\(checked.lastWords)")
        let survey = try OpenedDisk(grown.target, .readOnly).survey()
        #expect(survey.table.kind == .gpt && survey.table.condition == .intact)
        let last = try #require(survey.volumes.last)
        #expect(last.range.byteCount > 40 << 20 && last.filesystem.byteCount == last.range.byteCount)
        let file = try ChildProcess.run(["debugfs", "-R", "cat file", "\(grown.target)?offset=\(6 << 20)"])
        #expect(String(decoding: file.standardOutput, as: UTF8.self) == "contents\n")
    }

    /// Runs with a folder that has no room for a decompressed disk.
    private func withSmallFolder<Value>(_ body: (String) throws -> Value) throws -> Value {
        let small = scratch.path.appending("small")
        try Files.makeFolders(small)
        try run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small.string])
        defer { _ = try? ChildProcess.run(["umount", "-l", small.string]) }
        return try body(small.string)
    }

    /// Without space to decompress it, it is restored byte by byte, with a warning.
    @Test(.enabled(if: SystemFacts.isRoot, "mounts a small filesystem")) func withoutRoomItGoesBackAsItIs() throws {
        let bytes = try makeDisk()
        try shell("zstd -q -c plain > disk.img.zst")
        try withSmallFolder { small in
            let restored = try restore(path("disk.img.zst"), 24 << 20, scratch: small)
            #expect(restored.bytes == bytes)
        }
        #expect(events.notices.contains { $0.code == "verbatim" && $0.sentence.contains("--scratch") })
    }

    /// The name says that it is a raw image; the content is that of another format.
    @Test func anotherFormatIsNoRawImage() throws {
        _ = try makeDisk()
        try shell("(printf 'QFI\\373'; head -c 1048572 /dev/zero) > cloud.img; zstd -q -c cloud.img > cloud.img.zst")
        for (name, says) in [("cloud.img", "qcow2"), ("cloud.img.zst", "qcow2")] {
            do {
                _ = try restore(path(name), 24 << 20)
                Issue.record("\(name) was restored")
            } catch {
                let failure = JobFailure(error, cancellation: Cancellation())
                #expect(failure.status == .badImage && failure.message.contains(says), "\(failure)")
            }
        }
    }

    /// Inspecting writes nothing, so that a compressed disk is shown as bytes.
    @Test func aCompressedDiskIsInspected() throws {
        _ = try makeDisk()
        try shell("xz -1 -c plain > disk.img.xz; cp plain disk.img")
        let plain = try InspectOperation(InspectJob(disk: path("disk.img")), keys: keys, events: events).run()
        // A file is a disk for inspect, as for capture.
        #expect(plain.volumes.count == 2)
        let packed = try InspectOperation(InspectJob(disk: path("disk.img.xz")), keys: keys, events: events).run()
        #expect(packed.volumes.count == 1 && packed.warnings.contains { $0.contains("one range of bytes") })
        #expect(!events.notices.contains { $0.code == "verbatim" })
    }

    @Test func aScratchThatCannotHoldFilesIsRefused() throws {
        _ = try makeDisk()
        try shell("zstd -q -c plain > disk.img.zst")
        for folder in ["/proc", path("no such folder")] {
            do {
                _ = try restore(path("disk.img.zst"), 24 << 20, scratch: folder)
                Issue.record("\(folder) was used")
            } catch {
                let failure = JobFailure(error, cancellation: Cancellation())
                #expect(failure.status == .cannotCreate && failure.message.contains("--scratch"), "\(failure)")
            }
        }
    }

    /// Bytes outside of partitions are kept, however many: the file may be their only copy.
    @Test func gapsComeBack() throws {
        var random = SeededGenerator(seed: 3)
        var bytes = [UInt8](repeating: 0, count: 72 << 20)
        for index in 1 << 20..<bytes.count { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        try Files.write(bytes, to: scratch.path.appending("gaps.img"))
        let table = "label: dos\nunit: sectors\nstart=2048, size=2048\nstart=53248, size=2048\n"
        let made = try ChildProcess.run(["sfdisk", "-q", path("gaps.img")], input: Array(table.utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        bytes = try Files.read(scratch.path.appending("gaps.img"), limit: 1 << 30)
        #expect(try restore(path("gaps.img"), bytes.count).bytes == bytes)
        // Zeros are no loss, and need no warning.
        let rest = [UInt8](repeating: 0, count: bytes.count - (27 << 20))
        try Files.write(Array(bytes[..<(27 << 20)]) + rest, to: scratch.path.appending("zeros.img"))
        let ofZeros = try restore(path("zeros.img"), 80 << 20)
        #expect(ofZeros.bytes[2 << 20..<27 << 20] == bytes[2 << 20..<27 << 20])
        #expect(!ofZeros.report.plan.warnings.contains { $0.contains("behind the last partition") })
        // On another disk the gap behind the last partition has no place, which is said.
        let larger = try restore(path("gaps.img"), 80 << 20)
        #expect(larger.bytes[2 << 20..<27 << 20] == bytes[2 << 20..<27 << 20])
        #expect(larger.report.plan.warnings.contains { $0.contains("behind the last partition") })
    }

    /// An MBR has the same bytes for sectors of 512 and of 4096 bytes, and names other places.
    @Test func largeSectorsAreFoundByTheContents() throws {
        let part = path("part")
        try Files.write([UInt8](repeating: 0, count: 48 << 20), to: FilePath(part))
        try run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", part])
        var bytes = [UInt8](repeating: 0, count: 64 << 20)
        bytes.replaceSubrange(8 << 20..<56 << 20, with: try Files.read(FilePath(part), limit: 1 << 30))
        bytes[446 + 4] = 0x83
        bytes.setLittleEndian(UInt32(2048), at: 446 + 8)
        bytes.setLittleEndian(UInt32(12_288), at: 446 + 12)
        bytes.replaceSubrange(510..<512, with: [0x55, 0xAA])
        try Files.write(bytes, to: scratch.path.appending("large.img"))
        let image = try OpenedImage.open(path("large.img"), keys)
        let manifest = image.reader.header.manifest
        #expect(manifest.geometry.logicalSectorSize == 4096 && manifest.table.partitions.count == 1)
        #expect(manifest.regions.first { $0.kind == .partition }?.filesystem?.kind == .ext4)
        #expect(manifest.table.partitions.first?.range == 8 << 20..<56 << 20)
        // The rule: what has no 4096-byte table has sectors of 512.
        _ = try makeDisk()
        try shell("cp plain disk.img")
        #expect(try OpenedImage.open(path("disk.img"), keys).reader.header.manifest.geometry.logicalSectorSize == 512)
    }

    /// The id of a disk in a file is known only once it was read: before anything is written.
    @Test func anotherImageIsRefusedBeforeTheFirstWrite() throws {
        _ = try makeDisk()
        try shell("cp plain disk.img")
        guard
            case .image(let verified) = try VerifyOperation(
                VerifyJob(image: path("disk.img")), keys: keys, events: events
            ).run()
        else {
            Issue.record("no image")
            return
        }
        let target = path("target")
        let before = [UInt8](repeating: 0xEE, count: 24 << 20)
        for (id, isRight) in [("00000000", false), (verified.imageID, true)] {
            try Files.write(before, to: FilePath(target))
            var job = RestoreJob(image: path("disk.img"), disk: target)
            (job.isConfirmed, job.layout, job.expectedImageID) = (true, "keep", id)
            let restore = RestoreOperation(job, keys: keys, events: events, confirmer: NoConfirmer())
            let report = try? restore.run()
            #expect((report?.diskState == .complete) == isRight)
            #expect(try (Files.read(FilePath(target), limit: 1 << 30) == before) == !isRight)
        }
    }

    /// A file that changes while it is read gives no whole image.
    @Test func aFileThatChangesIsNoImage() throws {
        _ = try makeDisk()
        try shell("cp plain disk.img")
        let image = try OpenedImage.open(path("disk.img"), keys)
        try shell("printf x | dd of=disk.img bs=1 seek=2000000 conv=notrunc 2>/dev/null; touch -d @0 disk.img")
        #expect(throws: ImageError.self) { while try image.reader.nextRecord() != nil {} }
        #expect(image.reader.ending == nil)
    }

    @Test func anISOGoesBackAsItIs() throws {
        var bytes = try makeDisk()
        bytes.replaceSubrange(16 * 2048 + 1..<16 * 2048 + 6, with: Array("CD001".utf8))
        try Files.write(bytes, to: scratch.path.appending("disk.iso"))
        let restored = try restore(path("disk.iso"), 24 << 20)
        #expect(restored.bytes == bytes)
        #expect(events.notices.contains { $0.code == "verbatim" && $0.sentence.contains("ISO 9660") })
    }

    @Test func theSameFileIsTheSameImage() throws {
        _ = try makeDisk()
        for (name, recipe) in Self.formats {
            try shell(recipe)
            let first = try OpenedImage.open(path(name), keys)
            let second = try OpenedImage.open(path(name), keys)
            #expect(first.reader.header == second.reader.header, "\(name)")
            let again = try #require(try first.again())
            for image in [first, second, again] { while try image.reader.nextRecord() != nil {} }
            #expect(first.reader.ending != nil && first.reader.ending == second.reader.ending)
            #expect(first.reader.ending == again.reader.ending)
        }
    }

    @Test func anInterruptedRestoreIsNoImage() throws {
        _ = try makeDisk()
        let image = path("captured.img.zst")
        _ = try CaptureOperation(
            CaptureJob(disk: path("plain"), image: image), keys: keys, events: events, toolVersion: "test"
        ).run()
        // An image with a damaged end leaves a target that does not boot.
        var bytes = try Files.read(FilePath(image), limit: 1 << 30)
        for index in bytes.count / 2..<bytes.count / 2 + 64 { bytes[index] ^= 0x55 }
        try Files.write(bytes, to: FilePath(image))
        #expect(throws: (any Error).self) { try restore(image, 24 << 20) }
        try shell("cp target partial.img; zstd -q -c partial.img > partial.img.zst")
        try refuses("partial.img", scratch: .usual)
        try refuses("partial.img.zst", scratch: .usual)
        if SystemFacts.isRoot { try withSmallFolder { try refuses("partial.img.zst", scratch: .folder(FilePath($0))) } }
    }

    private func refuses(_ name: String, scratch: DiskScratchChoice) throws {
        do {
            _ = try OpenedImage.open(path(name), keys, scratch: scratch)
            Issue.record("\(name) passed for an image")
        } catch {
            #expect(JobFailure(error, cancellation: Cancellation()).status == .refused)
            #expect(
                JobFailure(error, cancellation: Cancellation()).message.contains("finish that restore first"),
                "\(name)")
        }
    }

    // MARK: Formats as table rows

    /// A disk after a magic number, each byte inverted.
    private struct ToyDisk: DiskFile {
        static let magic = Array("TOYDISK1".utf8)
        let file: FileBytes
        var byteCount: UInt64 { file.byteCount - 8 }
        var logicalSectorSize: Int { 512 }
        var name: String { file.name }
        var isRandomAccess: Bool { true }
        var hasUncheckedParts: Bool { true }
        var descriptor: Int32? { nil }

        func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
            do {
                let bytes = try file.bytes(at: offset + 8, count: buffer.count)
                buffer.copyBytes(from: bytes.map { ~$0 })
            } catch {
                throw BlockIOError(
                    .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                    reason: "\(error)")
            }
        }

        func confirmEnd() {}
    }

    /// Another disk format needs one row; survey, resizing and verify work with it.
    @Test func aDiskFormatIsOneRow() throws {
        let bytes = try makeDisk()
        try Files.write(ToyDisk.magic + bytes.map { ~$0 }, to: scratch.path.appending("disk.toy"))
        #expect(throws: (any Error).self) { try OpenedImage.open(path("disk.toy"), keys) }
        DiskFormat.table.register(
            DiskFormat(
                name: "toy disk",
                recognize: { head throws(ImageError) in head.bytes.starts(with: ToyDisk.magic) ? .byContent : .no },
                open: { request throws(ImageError) in ToyDisk(file: try FileBytes(request.path)) }))
        let grown = try restore(path("disk.toy"), 48 << 20, layout: "grow")
        let checked = try ChildProcess.run(["e2fsck", "-fn", "\(grown.target)?offset=\(6 << 20)"])
        #expect(checked.succeeded, "\(checked.lastWords)")
        let survey = try OpenedDisk(grown.target, .readOnly).survey()
        let last = try #require(survey.volumes.last)
        #expect(last.range.byteCount > 40 << 20 && last.filesystem.byteCount == last.range.byteCount)
        let report = InspectReport(try OpenedImage.open(path("disk.toy"), keys))
        #expect(report.volumes.last?.filesystem.kind == .ext4)
    }

    /// An image format of another program needs one row, with an `ImageReader`.
    @Test func aRecordingFormatIsOneRow() throws {
        let bytes = try makeDisk()
        try Files.write(Array("TOYRECRD".utf8) + bytes, to: scratch.path.appending("disk.rec"))
        RecordingFormat.table.register(
            RecordingFormat(
                name: "toy recording",
                recognize: { head throws(ImageError) in head.holds("TOYRECRD", at: 0) ? .byContent : .no },
                open: { request throws(ImageError) in
                    let file = try FileBytes(request.path)
                    let disk = MemoryDisk(try file.bytes(at: 8, count: Int(file.byteCount) - 8))
                    do {
                        let survey = try DiskSurveyor.survey(
                            disk, identity: DiskIdentity(path: "toy"),
                            geometry: DiskGeometry(byteCount: disk.byteCount))
                        let plan = CapturePlanner.recording(
                            of: survey, tableBytes: try .init(reading: disk, table: survey.table),
                            .init(uuid: .random(), changed: 0))
                        return OpenedRecording(try DiskRecording(plan, of: disk, confirmEnd: {}))
                    } catch { throw .foreign(name: "toy", why: "\(error)") }
                }))
        let grown = try restore(path("disk.rec"), 48 << 20, layout: "grow")
        let checked = try ChildProcess.run(["e2fsck", "-fn", "\(grown.target)?offset=\(6 << 20)"])
        #expect(checked.succeeded, "\(checked.lastWords)")
        let copy = try CopyOperation(
            CopyJob(source: path("disk.rec"), destination: path("copy.img.zst")), keys: keys, targetKeys: keys,
            hasOwnPassword: false, events: events
        ).run()
        #expect(copy.copies.count == 1)
    }
}
