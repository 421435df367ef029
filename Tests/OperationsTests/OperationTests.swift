// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Operations

/// Keeps events.
final class KeptEvents: EventSink {
    private let kept = Monitor<[Event]>([])
    func take(_ event: Event) { kept.update { $0.append(event) } }
    var all: [Event] { kept.update { $0 } }

    var reports: [Report] {
        all.compactMap { if case .finished(let report) = $0 { report } else { nil } }
    }
    var planLines: [String] {
        all.flatMap { event -> [String] in
            if case .planned(let plan) = event { return plan.lines }
            return []
        }
    }
    var notices: [Notice] {
        all.compactMap { if case .notice(let notice) = $0 { notice } else { nil } }
    }
    var phases: [String] {
        all.compactMap { if case .phase(let phase) = $0, !phase.isEmpty { phase } else { nil } }
    }
}

/// Types the same each time.
struct FixedConfirmer: Confirmer {
    var text: String?
    let asked = Monitor<[Question]>([])
    func canAsk(whileStreaming: Bool) -> Bool { true }
    func answer(to question: Question) -> String? {
        asked.update { $0.append(question) }
        return text
    }
}

struct FixedPassword: PasswordSource {
    var bytes: [UInt8]?
    var isGiven: Bool { bytes != nil }
    var otherSource: String { "nothing" }
    func password(for purpose: String, confirming: Bool, cancellation: Cancellation) throws -> [UInt8] {
        guard let bytes else { throw JobFailure(.refused, "no password for \(purpose)") }
        return bytes
    }
}

/// Cancels a job as soon as its plan is reported.
final class StoppingEvents: EventSink {
    let cancellation = Cancellation()
    func take(_ event: Event) { if case .planned = event { cancellation.request(SIGINT) } }
}

/// Whole jobs on files, with no command around them.
@Suite struct OperationTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private func keys(_ password: [UInt8]? = nil, _ cancellation: Cancellation = Cancellation()) -> KeyRing {
        KeyRing(FixedPassword(bytes: password), events, cancellation)
    }

    private func restoring(
        _ job: RestoreJob, _ confirmer: any Confirmer = NoConfirmer(), password: [UInt8]? = nil,
        cancellation: Cancellation = Cancellation()
    ) -> RestoreOperation {
        RestoreOperation(
            job, keys: keys(password, cancellation), events: events, confirmer: confirmer)
    }

    private func verifying(
        _ job: VerifyJob, password: [UInt8]? = nil, cancellation: Cancellation = Cancellation()
    ) -> VerifyOperation {
        VerifyOperation(job, keys: keys(password, cancellation), events: events)
    }

    /// A disk of 24 MiB with a table, an ext4 and a partition of raw bytes.
    private func makeDisk(_ name: String = "disk") throws -> [UInt8] {
        let file = scratch.path.appending(name)
        var random = SeededGenerator(seed: 7)
        let part = path("part")
        try Files.write([UInt8](repeating: 0, count: 12 << 20), to: FilePath(part))
        let made = try ChildProcess.run(["mke2fs", "-q", "-t", "ext4", part])
        try #require(made.succeeded, "\(made.lastWords)")
        var bytes = [UInt8](repeating: 0, count: 24 << 20)
        bytes.replaceSubrange(1 << 20..<13 << 20, with: try Files.read(FilePath(part), limit: 1 << 30))
        for index in 14 << 20..<15 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        try Files.write(bytes, to: file)
        let table = "label: gpt\nstart=2048, size=24576\nstart=28672, size=4096\n"
        let run = try ChildProcess.run(["sfdisk", "-q", file.string], input: Array(table.utf8))
        try #require(run.succeeded, "\(run.lastWords)")
        return try Files.read(file, limit: 1 << 30)
    }

    private func capture(_ disk: String, _ image: String, password: [UInt8]? = nil) throws -> CaptureReport {
        var job = CaptureJob(disk: disk, image: image)
        job.encrypts = password != nil && !image.hasSuffix("@")
        return try CaptureOperation(
            job, keys: keys(password), events: events, toolVersion: "test"
        ).run()
    }

    private func makeTarget(_ name: String, _ byteCount: UInt64) throws -> String {
        let file = try OwnedDescriptor.open(
            scratch.path.appending(name), .readWrite, options: .create, permissions: .ownerReadWrite)
        try Files.resize(file.raw, name, to: byteCount)
        return path(name)
    }

    private func refusal(_ body: () throws -> Void) -> JobFailure? {
        do {
            try body()
            return nil
        } catch { return JobFailure(error, cancellation: Cancellation()) }
    }

    @Test func aDiskComesBack() throws {
        let bytes = try makeDisk()
        let captured = try capture(path("disk"), path("disk.img.zst"))
        #expect(
            captured.partitions.map(\.filesystem).first == "ext4" && captured.usedByteCount < captured.diskByteCount)
        #expect(
            events.reports == [
                Report(
                    operation: "capture", outcome: Outcome(.done), imageID: captured.imageID,
                    writtenByteCount: captured.storedByteCount, seconds: captured.seconds)
            ])
        #expect(events.planLines.contains { $0.contains("ext4") })

        let verify = verifying(VerifyJob(image: path("disk.img.zst")))
        let findings = try verify.run()
        #expect(findings.isWhole)

        let target = try makeTarget("target", 24 << 20)
        var job = RestoreJob(image: path("disk.img.zst"), disk: target)
        (job.isConfirmed, job.layout, job.verifies) = (true, "keep", true)
        let restore = restoring(job)
        let report = try restore.run()
        #expect(report.diskState == .complete && restore.diskState == .complete && report.incomplete.isEmpty)
        let last = try #require(events.reports.last)
        #expect(last.operation == "restore" && last.outcome == Outcome(.done, diskState: .complete))
        #expect(last.imageID == captured.imageID)
        let restored = try Files.read(FilePath(target), limit: 1 << 30)
        // The used parts: the table, the raw partition, and a filesystem that passes its own check.
        #expect(restored[14 << 20..<15 << 20].elementsEqual(bytes[14 << 20..<15 << 20]))
        #expect(restored[..<(1 << 20)].elementsEqual(bytes[..<(1 << 20)]))
        let checked = try ChildProcess.run(["e2fsck", "-fn", "\(target)?offset=\(1 << 20)"])
        #expect(checked.succeeded, "\(checked.lastWords)")
    }

    @Test func nothingIsWrittenBeforeItIsConfirmed() throws {
        _ = try makeDisk()
        _ = try capture(path("disk"), path("disk.img.zst"))
        let target = try makeTarget("target", 32 << 20)
        let before = try Files.read(FilePath(target), limit: 1 << 30)
        let job = RestoreJob(image: path("disk.img.zst"), disk: target)
        for (confirmer, says) in [
            (FixedConfirmer(text: "yes"), "not confirmed"), (FixedConfirmer(text: nil), "not confirmed"),
        ] {
            let restore = restoring(job, confirmer)
            let failure = refusal { _ = try restore.run() }
            #expect(failure?.status == .refused && failure?.message.contains(says) == true)
            #expect(failure?.message.contains("Nothing was written to \(target)") == true)
            #expect(confirmer.asked.update { $0 }.count == 1)
            #expect(restore.diskState == .untouched)
            #expect(events.reports.last?.outcome == Outcome(.refused, diskState: .untouched))
        }
        let nobody = restoring(job)
        #expect(refusal { _ = try nobody.run() }?.message.contains("confirmation needs a terminal") == true)
        #expect(try Files.read(FilePath(target), limit: 1 << 30) == before)
        // The plan came first, each time.
        #expect(events.planLines.filter { $0.hasPrefix("Target \(target)") }.count == 3)

        var trial = job
        (trial.dryRun, trial.partitions) = (true, ["2=drop"])
        let rehearsed = try restoring(trial).run()
        #expect(rehearsed.planText?.lines.isEmpty == false && rehearsed.diskState == .untouched)
        // Text and JSON agree.
        let said = "partition 2 is left out, as asked for"
        #expect(rehearsed.warnings.contains(said) && rehearsed.plan.warnings == rehearsed.warnings)
        #expect(rehearsed.planText?.lines.contains("note: \(said)") == true)
        #expect(try Files.read(FilePath(target), limit: 1 << 30) == before)

        let typed = FixedConfirmer(text: target)
        let report = try restoring(job, typed).run()
        #expect(report.diskState == .complete)
    }

    @Test func aDamagedImageIsSaid() throws {
        _ = try makeDisk()
        let image = path("disk.img.zst")
        _ = try capture(path("disk"), image)
        var bytes = try Files.read(FilePath(image), limit: 1 << 30)
        // Far from the header: in the data of the raw partition.
        for index in bytes.count / 2..<bytes.count / 2 + 64 { bytes[index] ^= 0x55 }
        try Files.write(bytes, to: FilePath(image))
        let verify = verifying(VerifyJob(image: image))
        let failure = refusal { _ = try verify.run() }
        #expect(failure?.status == .badImage && failure?.message.contains("--salvage") == true)
        #expect(events.reports.last?.outcome.status == .badImage)

        let target = try makeTarget("target", 24 << 20)
        var job = RestoreJob(image: image, disk: target)
        job.isConfirmed = true
        let restore = restoring(job)
        let ended = refusal { _ = try restore.run() }
        #expect(ended?.status == .badImage && restore.diskState == .partial)
        #expect(events.reports.last?.outcome == Outcome(.badImage, diskState: .partial))
        #expect(events.reports.last?.message?.contains("boots nothing") == true)
    }

    @Test func aCancellationEndsItsOwnJobAlone() throws {
        _ = try makeDisk()
        let image = path("disk.img.zst")
        _ = try capture(path("disk"), image)
        let (stopped, lost) = (Cancellation(), Cancellation())
        stopped.request(SIGTERM)
        lost.noteLoss("/dev/sdx is gone")

        let verify = VerifyJob(image: image)
        let failure = refusal { _ = try verifying(verify, cancellation: stopped).run() }
        #expect(failure == JobFailure(.interrupted, "asked to stop (SIGTERM)"))
        #expect(events.reports.last?.outcome.status == .interrupted)
        let loss = refusal { _ = try verifying(verify, cancellation: lost).run() }
        #expect(loss == JobFailure(.ioError, "/dev/sdx is gone"))

        let stopping = StoppingEvents()
        let other = path("other.img.zst")
        let stoppedCapture = CaptureOperation(
            CaptureJob(disk: path("disk"), image: other),
            keys: KeyRing(FixedPassword(), stopping, stopping.cancellation), events: stopping,
            toolVersion: "test")
        let ended = refusal { _ = try stoppedCapture.run() }
        #expect(ended?.status == .interrupted && ended?.message.hasPrefix("interrupted (SIGINT). Nothing") == true)
        #expect(!Files.exists(FilePath(other)))

        let target = try makeTarget("target", 24 << 20)
        var job = RestoreJob(image: image, disk: target)
        job.isConfirmed = true
        let restore = restoring(job, cancellation: stopped)
        #expect(refusal { _ = try restore.run() }?.status == .interrupted && restore.diskState == .untouched)

        // Jobs without a cancellation continue.
        #expect(try verifying(verify).run().isWhole)
        #expect(try restoring(job).run().diskState == .complete)
    }

    @Test(arguments: [false, true]) func snapshotsAreCopied(isEncrypted: Bool) throws {
        _ = try makeDisk()
        let password = isEncrypted ? Array("secret".utf8) : nil
        for name in ["one", "two"] {
            let store = LocalStore(scratch.path.appending(name))
            let master: MasterKeys? = isEncrypted ? .random() : nil
            _ = try Repository.create(in: store, chunkByteCount: 1 << 20, keys: master) {
                if let master, let password {
                    let cost = PasswordCost(rounds: 16, blockSize: 8, parallelism: 1)
                    try KeyStore(store).add(master, password: password, label: "test", cost: cost)
                }
            }
        }
        let first = try capture(path("disk"), path("one@"), password: password)
        let again = try capture(path("disk"), path("one@"), password: password)
        #expect(first.newByteCount > 0 && again.newByteCount == 0 && again.host != nil)
        func copy() throws -> CopyReport {
            try CopyOperation(
                CopyJob(source: path("one@"), destination: path("two@")), keys: keys(password),
                targetKeys: keys(password), hasOwnPassword: false, events: events
            ).run()
        }
        #expect(try copy().copies.count == 2)
        let second = try copy()
        #expect(second.copies.isEmpty && second.skipped == 2)
        var job = VerifyJob(image: path("two"))
        job.readsDataPercent = 100
        let findings = try VerifyOperation(job, keys: keys(password), events: events).run()
        guard case .repository(let report) = findings else {
            Issue.record("no repository")
            return
        }
        #expect(report.isWhole && report.snapshots == 2)
        #expect(events.reports.allSatisfy { $0.outcome.status == .done })

        let target = try makeTarget("target", 24 << 20)
        var restore = RestoreJob(image: path("two@latest"), disk: target)
        restore.isConfirmed = true
        let restored = try restoring(restore, password: password).run()
        #expect(restored.diskState == .complete)
    }

    @Test func eventsReadAsTheyWereWritten() throws {
        let events: [Event] = [
            .planned(PlanText(["a", "b"])), .phase("write"),
            .progress(ProgressFacts(phase: "write", done: 1, total: 2, rate: 3.5, secondsLeft: 4)), .step("done"),
            .log("line"), .notice(Notice("clock", .warning, "it is late")),
            .finished(
                Report(
                    operation: "restore", outcome: Outcome(.incomplete, diskState: .complete), message: "boot repair",
                    imageID: "ab", writtenByteCount: 5, seconds: 6)),
        ]
        for event in events {
            let bytes = try JSONText.encode(event)
            #expect(!bytes.contains(10))
            #expect(try JSONText.decode(Event.self, bytes) == event)
            #expect(String(decoding: bytes, as: UTF8.self).contains("\"schema\":1"))
        }
        var restore = RestoreJob(image: "a", disk: "b")
        (restore.only, restore.partitions, restore.expectedDiskSequence) = (3, ["3=1G"], 9)
        var capture = CaptureJob(disk: "a", image: "b@")
        capture.tags = ["x"]
        for job in [
            Job.restore(restore), .capture(capture), .copy(CopyJob(source: "a", destination: "b")),
            .verify(VerifyJob(image: "a")), .repairBoot(BootRepairJob(disk: "a")),
        ] {
            #expect(try JSONText.decode(Job.self, try JSONText.encode(job)) == job)
        }
    }
}
