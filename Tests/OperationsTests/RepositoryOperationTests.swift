// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import Operations
import SystemPackage
import TestSupport
import Testing

/// A repository from its making to its pruning, with no command around it.
@Suite struct RepositoryOperationTests: OperationSuite {
    let scratch: ScratchFolder
    let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    /// A disk of 8 MiB with two partitions of raw bytes, 2 MiB each.
    private func makeDisk() throws {
        var random = SeededGenerator(seed: 11)
        var bytes = [UInt8](repeating: 0, count: 8 << 20)
        for index in 1 << 20..<5 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        try Files.write(bytes, to: FilePath(path("disk")))
        let table = "label: gpt\nstart=2048, size=4096\nstart=6144, size=4096\n"
        let run = try ChildProcess.run(["sfdisk", "-q", path("disk")], input: Array(table.utf8))
        try #require(run.succeeded, "\(run.lastWords)")
    }

    /// Changes a byte in the middle of a chunk of the second partition.
    private func changeDisk() throws {
        var bytes = try Files.read(FilePath(path("disk")), limit: 1 << 30)
        bytes[4 << 20 | 1 << 19] ^= 0x55
        try Files.write(bytes, to: FilePath(path("disk")))
    }

    private func capture() throws -> CaptureReport {
        var job = CaptureJob(disk: path("disk"), image: path("repo@"))
        (job.host, job.diskName) = ("web1", "sda")
        return try CaptureOperation(job, keys: keys(), events: events, toolVersion: "test").run()
    }

    private func list(host: String? = nil, tag: String? = nil) throws -> SnapshotsOperation.Findings {
        var job = SnapshotsJob(repository: path("repo"))
        (job.host, job.tag) = (host, tag)
        return try SnapshotsOperation(job, keys: keys(), events: events).run()
    }

    private func forget(_ job: ForgetJob) throws -> ForgetOperation.Findings {
        try ForgetOperation(job, keys: keys(), events: events).run()
    }

    private func refusal(_ body: () throws -> Void) -> JobFailure? {
        do {
            try body()
            return nil
        } catch { return JobFailure(error, cancellation: Cancellation()) }
    }

    private struct Anything: Decodable { init(from decoder: any Decoder) {} }

    /// The names of the fields that a report has as JSON.
    private func fields(_ report: some Encodable) throws -> Set<String> {
        Set(try JSONText.decode([String: Anything].self, try JSONText.encode(report)).keys)
    }

    @Test func snapshotsComeAndGo() throws {
        try makeDisk()
        try makeRepository("repo@")
        #expect(try list().snapshots.isEmpty)
        let first = try capture()
        try changeDisk()
        let second = try capture()

        let listed = try list()
        #expect(Set(listed.snapshots.map(\.id)) == [first.imageID, second.imageID])
        #expect(listed.snapshots.allSatisfy { $0.host == "web1" && $0.disk == "sda" })
        #expect(listed.repository == path("repo") && listed.outcome == Outcome(.done))
        let (elsewhere, tagged) = (try list(host: "web2"), try list(tag: "nightly"))
        #expect(elsewhere.snapshots.isEmpty && tagged.snapshots.isEmpty)

        let compared = DiffJob(from: path("repo@\(first.imageID)"), to: path("repo@\(second.imageID)"))
        let difference = try DiffOperation(compared, keys: keys(), events: events).run()
        #expect(difference.changedByteCount == 1 << 20)
        #expect(difference.partitions.filter { $0.changedByteCount > 0 }.map(\.partition) == [2])
        #expect(difference.from == first.imageID && difference.to == second.imageID)

        var policy = ForgetJob(repository: path("repo"))
        (policy.keepsLast, policy.dryRun) = (1, true)
        let rehearsed = try forget(policy)
        #expect(rehearsed.dryRun && rehearsed.forgotten.count == 1)
        #expect(try list().snapshots.count == 2)
        policy.dryRun = false
        let forgotten = try forget(policy)
        #expect(forgotten.kept.map(\.id) == [listed.snapshots[1].id])
        #expect(forgotten.kept.first?.reasons == ["last 1"])
        #expect(forgotten.forgotten.map(\.id) == [listed.snapshots[0].id])
        #expect(forgotten.groups.count == 1 && forgotten.groups.first?.host == "web1")
        #expect(try list().snapshots.map(\.id) == [listed.snapshots[1].id])

        let pruned = try PruneOperation(PruneJob(repository: path("repo@")), keys: keys(), events: events).run()
        #expect(pruned.snapshots == 1 && pruned.missingCount == 0 && pruned.neededByteCount > 0)
        // Marked packs wait for the grace time.
        #expect(pruned.removed.packs == 0)
        let job = InspectJob(disk: path("repo@latest"))
        let inspected = try InspectOperation(job, keys: keys(), events: events).run()
        #expect(inspected.kind == "snapshot" && inspected.imageID == listed.snapshots[1].id)
        #expect(inspected.volumes.map(\.partition) == [1, 2] && inspected.host == "web1")

        #expect(events.reports.allSatisfy { $0.outcome.status == .done })
        let told = Set(events.reports.map(\.operation))
        #expect(told == ["init-repo", "capture", "snapshots", "diff", "forget", "prune", "inspect"])
        #expect(try fields(listed) == ["schema", "repository", "snapshots", "damaged"])
        #expect(try fields(difference) == ["schema", "from", "to", "changedByteCount", "partitions"])
        #expect(try fields(forgotten) == ["schema", "dryRun", "kept", "forgotten", "damaged"])
        #expect(
            try fields(pruned) == [
                "schema", "dryRun", "snapshots", "neededByteCount", "present", "removed", "waiting", "newlyMarked",
                "unmarked", "repacked", "adopted", "copiedByteCount", "missingCount", "notes",
            ])
    }

    @Test func aDamagedSnapshotIsNamedAndStays() throws {
        try makeDisk()
        try makeRepository()
        let damaged = try capture()
        _ = try capture()
        let file = scratch.path.appending("repo").appending("snapshots").appending(damaged.imageID)
        try Files.write(Array("no snapshot".utf8), to: file)
        let listed = try list()
        #expect(listed.snapshots.count == 1 && listed.damaged.count == 1)
        #expect(listed.damaged.first?.name.contains(damaged.imageID) == true)
        #expect(listed.outcome == Outcome(.badImage) && events.reports.last?.outcome == Outcome(.badImage))
        var job = ForgetJob(repository: path("repo"))
        job.keepsLast = 1
        let forgotten = try forget(job)
        #expect(forgotten.forgotten.isEmpty && forgotten.damaged.count == 1)
        #expect(forgotten.outcome == Outcome(.badImage))
        #expect(try Files.read(file) == Array("no snapshot".utf8))
    }

    @Test func whatMakesNoSenseIsRefused() throws {
        try makeDisk()
        try makeRepository()
        let nothing = refusal { _ = try forget(ForgetJob(repository: path("repo"))) }
        #expect(nothing?.status == .usage && nothing?.message.contains("--keep-") == true)
        var negative = ForgetJob(repository: path("repo"))
        (negative.keepsLast, negative.keepsDaily) = (1, -1)
        #expect(negative.contradiction?.contains("negative") == true)

        let images = DiffJob(from: path("disk"), to: path("disk"))
        let noSnapshots = refusal { _ = try DiffOperation(images, keys: keys(), events: events).run() }
        #expect(noSnapshots?.status == .usage && noSnapshots?.message.contains("two snapshots") == true)
        try makeRepository("other")
        let apart = DiffJob(from: path("repo@latest"), to: path("other@latest"))
        let twoPlaces = refusal { _ = try DiffOperation(apart, keys: keys(), events: events).run() }
        #expect(twoPlaces?.status == .usage && twoPlaces?.message.contains("one repository") == true)

        var image = InspectJob(disk: path("repo@latest"))
        image.luksKeyFiles = [path("key")]
        let key = refusal { _ = try InspectOperation(image, keys: keys(), events: events).run() }
        #expect(key?.status == .usage)

        let plain = RepositoryKeysOperation(path("repo"), events: events, cancellation: Cancellation())
        #expect(refusal { _ = try plain.list() }?.status == .refused)
        let again = refusal { try makeRepository() }
        #expect(again?.status == .cannotCreate)
    }

    @Test func aDiskIsInspected() throws {
        try makeDisk()
        let job = InspectJob(disk: path("disk"))
        let report = try InspectOperation(job, keys: keys(), events: events).run()
        #expect(report.kind == "disk" && report.geometry.byteCount == 8 << 20)
        #expect(report.volumes.map(\.byteCount) == [2 << 20, 2 << 20])
        #expect(report.interruptedRestore == nil && report.text.contains("partition table: GPT"))
    }

    @Test func aRepositoryTakesAfterAnother() throws {
        var job = InitRepositoryJob(repository: path("repo"))
        job.chunkByteCount = 1 << 16
        let made = try InitRepositoryOperation(job, keys: keys(), likeKeys: keys(), events: events).run()
        #expect(made.chunkByteCount == 1 << 16 && !made.isEncrypted && made.path == path("repo"))
        job = InitRepositoryJob(repository: path("second@"))
        job.like = path("repo")
        let second = try InitRepositoryOperation(job, keys: keys(), likeKeys: keys(), events: events).run()
        #expect(second.chunkByteCount == 1 << 16 && second.path == path("second"))
        job = InitRepositoryJob(repository: path("third"))
        (job.like, job.encrypts) = (path("repo"), true)
        let third = refusal {
            _ = try InitRepositoryOperation(job, keys: keys("secret"), likeKeys: keys(), events: events).run()
        }
        #expect(third?.status == .usage && !Files.exists(FilePath(path("third"))))
    }

    @Test func passwordsComeAndGo() throws {
        let (first, second) = (Array("first".utf8), Array("second".utf8))
        var job = InitRepositoryJob(repository: path("repo"))
        job.encrypts = true
        let made = try InitRepositoryOperation(job, keys: keys("first"), likeKeys: keys(), events: events).run()
        #expect(made.isEncrypted)
        let operation = RepositoryKeysOperation(path("repo@"), events: events, cancellation: Cancellation())
        let old = try operation.list()
        #expect(old.keys.count == 1 && old.unusable.isEmpty && old.outcome == Outcome(.done))
        #expect(try fields(old) == ["schema", "keys", "unusable"])
        let added = try operation.add(
            FixedPassword(bytes: second), label: "me", openedBy: FixedPassword(bytes: first))
        #expect(added.label == "me")
        #expect(try operation.list().keys.map(\.label).contains("me"))
        let removed = try operation.remove(old.keys[0].id, openedBy: FixedPassword(bytes: second))
        #expect(removed == old.keys[0].id)
        #expect(try operation.list().keys.map(\.id) == [added.id])
        let shut = refusal {
            _ = try SnapshotsOperation(
                SnapshotsJob(repository: path("repo")), keys: keys("first"), events: events
            ).run()
        }
        #expect(shut?.status == .refused)
    }
}
