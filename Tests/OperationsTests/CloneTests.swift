// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// Restores from one disk onto another.
@Suite struct CloneTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    // MARK: what a clone knows about its disks

    private func survey(
        _ kind: FilesystemInfo.Kind?, mebibytes: UInt64 = 64, serial: String? = "S1", path: String = "/dev/sda",
        sequence: UInt64? = 1, diskGUID: String = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", boots: Bool = false
    ) throws -> DiskSurvey {
        let byteCount = mebibytes << 20
        let range: ByteRange = 1 << 20..<byteCount - (1 << 20)
        let partition = Partition(
            number: 1, range: range, typeGUID: try #require(GUID(PartitionType.microsoftBasicData)),
            guid: .random())
        let volume = VolumeSurvey(
            range: kind == nil ? 0..<byteCount : range, partition: kind == nil ? nil : partition,
            filesystem: FilesystemInfo(kind: kind ?? .unknown, kindName: "it", mapSource: .whole),
            allocation: .whole(byteCount: range.byteCount))
        return DiskSurvey(
            identity: DiskIdentity(path: path, kernelName: "sda", serial: serial, diskSequence: sequence),
            geometry: DiskGeometry(byteCount: byteCount),
            table: PartitionTable(
                kind: kind == nil ? .none : .gpt, diskGUID: kind == nil ? nil : GUID(diskGUID),
                usable: 0..<byteCount, partitions: kind == nil ? [] : [partition]),
            volumes: [volume], boot: BootSurvey(biosBootCode: boots ? "GRUB" : nil))
    }

    @Test func theSameDiskHasTheSameIdentityAtAnyTimeAndPlace() throws {
        let one = try ClonedDisk.uuid(of: survey(.ext4))
        #expect(try ClonedDisk.uuid(of: survey(.ext4, path: "/dev/sdz", sequence: 9)) == one)
        #expect(try ClonedDisk.uuid(of: survey(.ext4, serial: "S2")) != one)
        #expect(try ClonedDisk.uuid(of: survey(.ext4, mebibytes: 65)) != one)
        #expect(try ClonedDisk.uuid(of: survey(.ext4, diskGUID: "1FC63DAF-8483-4772-8E79-3D69D8477DE4")) != one)
    }

    @Test func disksThatLookSwappedAreNoticed() throws {
        let blank = try survey(nil)
        let small = try survey(.ext4, mebibytes: 32, boots: true)
        let large = try survey(.ext4, mebibytes: 64)
        let system = try survey(.ext4, mebibytes: 64, boots: true)
        #expect(ClonedDisk.swapSign(from: blank, to: large)?.contains("is blank") == true)
        #expect(ClonedDisk.swapSign(from: small, to: system)?.contains("smaller") == true)
        // A used data disk as the target, a blank target, a target of the same size, and one that cannot be surveyed.
        #expect(ClonedDisk.swapSign(from: small, to: large) == nil)
        #expect(ClonedDisk.swapSign(from: small, to: blank) == nil)
        #expect(ClonedDisk.swapSign(from: system, to: system) == nil)
        #expect(ClonedDisk.swapSign(from: blank, to: blank) == nil)
        #expect(ClonedDisk.swapSign(from: blank, to: nil) == nil)
    }

    @Test func whatNamesBothDisksConfirmsNeither() throws {
        func disk(_ name: String, _ serial: String?) -> DiskIdentity {
            DiskIdentity(path: "/dev/\(name)", kernelName: name, serial: serial)
        }
        // Adapters that give every disk the same serial number.
        let (source, target) = (disk("sda", "000000"), disk("sdb", "000000"))
        #expect(ClonedDisk.confirmationText(of: target, besides: source) == "sdb")
        #expect(ClonedDisk.confirmationText(of: source, besides: target) == "sda")
        #expect(ClonedDisk.answers(target: target, source: source) == ["sdb", "/dev/sdb"])
        #expect(ClonedDisk.confirmationText(of: disk("sdb", "S2"), besides: disk("sda", "S1")) == "S2")
        #expect(ClonedDisk.answers(target: disk("sdb", "S2"), source: disk("sda", "S1")) == ["S2", "sdb", "/dev/sdb"])
    }

    @Test func contentsAreOneLineWithoutControlCharacters() throws {
        var disk = try survey(.ext4, boots: true)
        disk.volumes[0].filesystem.label = "a\u{1B}[2J\nb"
        #expect(disk.contents == "GPT, 1 it \"a?[2J?b\" 62 MiB, BIOS boot code (GRUB)")
        #expect(try survey(nil).contents == "nothing known (no partition table)")
    }

    // MARK: clones of loop devices

    private static let hasLoops = SystemFacts.isRoot && Files.exists("/dev/loop-control")

    private func path(_ name: String) -> FilePath { scratch.path.appending(name) }

    /// A disk of 24 MiB: a GPT, raw bytes in partition 1, and an ext4 in partition 2, which is last.
    private func makeDisk(_ name: String) throws -> [UInt8] {
        let part = path("part")
        try Files.write([UInt8](repeating: 0, count: 16 << 20), to: part)
        let made = try ChildProcess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", part.string])
        try #require(made.succeeded, "\(made.lastWords)")
        var random = SeededGenerator(seed: 23)
        var bytes = [UInt8](repeating: 0, count: 24 << 20)
        for index in 1 << 20..<3 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        bytes.replaceSubrange(6 << 20..<22 << 20, with: try Files.read(part, limit: 1 << 30))
        try Files.write(bytes, to: path(name))
        let table = "label: gpt\nstart=2048, size=8192\nstart=12288, size=32768, type=L\n"
        let run = try ChildProcess.run(["sfdisk", "-q", path(name).string], input: Array(table.utf8))
        try #require(run.succeeded, "\(run.lastWords)")
        return try Files.read(path(name), limit: 1 << 30)
    }

    private func loop(_ name: String, mebibytes: Int, sectorSize: Int = 512) throws -> LoopDevice {
        if !Files.exists(path(name)) {
            try Files.write([UInt8](repeating: 0xA5, count: mebibytes << 20), to: path(name))
        }
        return try LoopDevice(over: path(name), range: 0..<UInt64(mebibytes) << 20, sectorSize: sectorSize)
    }

    private func job(_ from: FilePath, _ to: FilePath) -> RestoreJob {
        var job = RestoreJob(image: from.string, disk: to.string)
        (job.isConfirmed, job.layout, job.verifies) = (true, "keep", true)
        return job
    }

    private func operation(
        _ job: RestoreJob, _ sink: (any EventSink)? = nil, _ confirmer: any Confirmer = NoConfirmer()
    ) -> RestoreOperation {
        let sink = sink ?? events
        return RestoreOperation(
            job, keys: KeyRing(FixedPassword(bytes: nil), sink, Cancellation()), events: sink, confirmer: confirmer)
    }

    private func refusal(_ operation: RestoreOperation) -> JobFailure? {
        do {
            _ = try operation.run()
            return nil
        } catch { return JobFailure(error, cancellation: Cancellation()) }
    }

    private func bytes(_ device: FilePath) throws -> [UInt8] {
        let disk = try BlockDevice(opening: device)
        disk.dropCache(0..<disk.byteCount)
        return try disk.readBytes(at: 0, count: Int(disk.byteCount))
    }

    private func checkFilesystem(_ device: FilePath, offset: Int) throws {
        let checked = try ChildProcess.run(["e2fsck", "-fn", "\(device)?offset=\(offset)"])
        #expect(checked.succeeded, "\(checked.lastWords)")
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func aDiskIsClonedOntoAnother() throws {
        let disk = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 24)
        let report = try operation(job(from.path, to.path)).run()
        #expect(report.diskState == .complete && report.incomplete.isEmpty && report.lost.isEmpty)
        #expect(report.source?.path == from.path.string && report.imageID == nil)
        #expect(report.advice?.contains("same ids") == true)
        let copy = try bytes(to.path)
        #expect(copy[..<(3 << 20)].elementsEqual(disk[..<(3 << 20)]))
        try checkFilesystem(to.path, offset: 6 << 20)
        #expect(try bytes(from.path) == disk)
        let plan = events.planLines
        #expect(
            plan.contains { $0.hasPrefix("From \(from.path)") } && plan.contains { $0.hasPrefix("To   \(to.path)") })
        #expect(plan.contains { $0.contains("ext4") && $0.hasPrefix("  holds GPT") })
        // What a failing disk no longer gives is no clean success.
        #expect(report.status == .done && report.lossSentence(job(from.path, to.path)) == nil)
        var holed = report
        holed.diskState = .salvaged
        #expect(holed.status == .ioError)
        #expect(holed.lossSentence(job(from.path, to.path))?.contains("could not be read everywhere") == true)
        holed.source = nil
        #expect(holed.status == .badImage)
        // The same once more finds nothing to write but what the commit holds back.
        var again = job(from.path, to.path)
        again.isDelta = true
        #expect(try operation(again).run().writtenByteCount < report.writtenByteCount)
        #expect(try bytes(to.path) == copy)
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func aLargerDiskWithLargeSectors() throws {
        let disk = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 48, sectorSize: 4096)
        var request = job(from.path, to.path)
        (request.layout, request.trustsUnknown) = ("grow", true)
        let report = try operation(request).run()
        #expect(report.diskState == .complete && report.incomplete.isEmpty)
        let copy = try bytes(to.path)
        #expect(copy[1 << 20..<3 << 20].elementsEqual(disk[1 << 20..<3 << 20]))
        #expect(copy[4096..<4104].elementsEqual(Array("EFI PART".utf8)))
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func aDryRunWritesNothing() throws {
        let disk = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 24)
        let before = try bytes(to.path)
        var request = job(from.path, to.path)
        (request.dryRun, request.isConfirmed) = (true, false)
        let report = try operation(request).run()
        #expect(report.planText?.lines.first?.hasPrefix("From \(from.path)") == true && report.advice == nil)
        #expect(try bytes(to.path) == before && bytes(from.path) == disk)
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func theSameDiskIsRefused() throws {
        let disk = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let over = try LoopDevice(over: from.path, range: 4 << 20..<12 << 20)
        symlink(from.path, "link")
        let link = path("link")
        // Parts that overlap, with neither on the other; and a neighbour, which is no part of it.
        let part = try LoopDevice(over: from.path, range: 8 << 20..<16 << 20)
        #expect(DiskDirectory().overlap(name(over.path), name(part.path)))
        let neighbour = try LoopDevice(over: from.path, range: 12 << 20..<16 << 20)
        #expect(!DiskDirectory().overlap(name(over.path), name(neighbour.path)))
        for (one, other) in [(from.path, from.path), (from.path, link), (from.path, over.path), (over.path, from.path)]
        {
            let restore = operation(job(one, other))
            let failure = refusal(restore)
            #expect(failure?.status == .refused, "\(one) \(other): \(failure?.message ?? "")")
            #expect(restore.diskState == .untouched)
        }
        #expect(refusal(operation(job(from.path, link)))?.message.contains("are the same disk") == true)
        // The file below it is the same disk, too.
        #expect(refusal(operation(job(from.path, path("from"))))?.status == .refused)
        #expect(try bytes(from.path) == disk)
    }

    private func name(_ node: FilePath) -> String { node.lastComponent?.string ?? "" }

    private func symlink(_ target: FilePath, _ name: String) {
        _ = try? ChildProcess.run(["ln", "-s", target.string, path(name).string])
    }

    /// Writes to the source once the plan is shown.
    private final class WritingEvents: EventSink {
        let device: FilePath
        let offset: UInt64
        init(_ device: FilePath, at offset: UInt64) { (self.device, self.offset) = (device, offset) }
        func take(_ event: Event) {
            guard case .planned = event, let disk = try? BlockDevice(opening: device, .exclusiveWrite) else { return }
            try? disk.writeBytes([UInt8](repeating: 0x5C, count: 4096), at: offset)
            try? disk.flush()
        }
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func aSourceThatChangesIsNoticed() throws {
        _ = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 24)
        let restore = operation(job(from.path, to.path), WritingEvents(from.path, at: 2 << 20))
        let failure = refusal(restore)
        #expect(failure?.status == .ioError && failure?.message.contains("did not hold still") == true)
        #expect(restore.diskState == .partial)
        #expect(try bytes(to.path)[..<4096].allSatisfy { $0 == 0 })
        // The same command completes it, with the source as it is now.
        var again = job(from.path, to.path)
        again.isDelta = true
        #expect(try operation(again).run().diskState == .complete)
        let (one, other) = (try bytes(from.path), try bytes(to.path))
        #expect(one[1 << 20..<5 << 20].elementsEqual(other[1 << 20..<5 << 20]) && other[2 << 20] == 0x5C)
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func aSwappedCommandLineNeedsMoreThanYes() throws {
        let disk = try makeDisk("to")
        try Files.write([UInt8](repeating: 0, count: 24 << 20), to: path("from"))
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 24)
        let name = try #require(from.path.lastComponent?.string)
        let refused = refusal(operation(job(from.path, to.path)))
        #expect(refused?.status == .refused && refused?.message.contains("--confirm-source \(name)") == true)
        let asked = FixedConfirmer(text: "yes")
        #expect(refusal(operation(job(from.path, to.path), nil, asked))?.status == .refused)
        #expect(asked.asked.update { $0 }.first?.text.contains("Are the two swapped?") == true)
        var named = job(from.path, to.path)
        named.confirmedSource = "another"
        #expect(refusal(operation(named))?.message.contains("names another disk") == true)
        #expect(try bytes(to.path) == disk)
        named.confirmedSource = name
        #expect(try operation(named).run().diskState == .complete)
        #expect(try bytes(to.path).allSatisfy { $0 == 0 })
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func optionsForImagesAreRefused() throws {
        _ = try makeDisk("from")
        let from = try loop("from", mebibytes: 24)
        let to = try loop("to", mebibytes: 24)
        var salvaging = job(from.path, to.path)
        salvaging.salvages = true
        #expect(refusal(operation(salvaging))?.status == .usage)
        var expecting = job(from.path, to.path)
        expecting.expectedImageID = "ab"
        #expect(refusal(operation(expecting))?.status == .usage)
        var rescuing = job(path("from"), to.path)
        rescuing.rescues = true
        #expect(refusal(operation(rescuing))?.message.contains("not a block device") == true)
    }

    @Test(.enabled(if: hasLoops, "loop devices need root")) func anImageOnADeviceIsNoDisk() throws {
        try Files.write([0x28, 0xB5, 0x2F, 0xFD] + [UInt8](repeating: 0, count: 1 << 20), to: path("from"))
        let from = try loop("from", mebibytes: 1)
        let to = try loop("to", mebibytes: 1)
        #expect(refusal(operation(job(from.path, to.path)))?.message.contains("a zstd file") == true)
    }
}
