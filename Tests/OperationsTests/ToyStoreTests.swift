// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import JobModel
import LinuxSystem
import ObjectStore
import Operations
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// A store that is added by its row alone, as docs/contributing.md says: `toy://SHELF/NAME`, in the memory of this
/// process. It has no times and creates nothing atomically.
private final class ToyStore: WrappedStore {
    let inner: any PrunableStore
    let name: String
    let traits: StoreTraits

    init(_ address: String) {
        name = address
        inner = Self.shelves.withLock { shelves in
            if let known = shelves[address] { return known }
            let new = MemoryStore(name: address, keepsTime: false)
            shelves[address] = new
            return new
        }
        var traits = inner.traits
        traits.createsAtomically = false
        self.traits = traits
    }

    private static let shelves = Mutex<[String: MemoryStore]>([:])

    static let register: Void = Stores.table.register(StoreKind(scheme: "toy") { address, _ in ToyStore(address) })

    /// Flips a bit of every pack.
    static func damage(_ address: String) throws {
        let store = ToyStore(address)
        for pack in try store.list(.pack) {
            let id = ObjectID(.pack, pack)
            var bytes = try store.read(id, limit: .max)
            bytes[bytes.count / 2] ^= 1
            try store.put(id, bytes, [])
        }
    }
}

/// All that is done with a repository, in a store that the operations have never heard of.
@Suite struct ToyStoreTests {
    private let scratch: ScratchFolder
    private let events = KeptEvents()
    /// Tests share the shelves.
    private let shelf = GUID.random().description

    init() throws {
        _ = ToyStore.register
        scratch = try ScratchFolder()
    }

    private func path(_ name: String) -> String { scratch.path.appending(name).string }
    private func toy(_ name: String) -> String { "toy://user@\(shelf)/\(name)" }
    private func keys(_ password: String? = nil) -> KeyRing {
        KeyRing(FixedPassword(bytes: password.map { Array($0.utf8) }), events, Cancellation())
    }

    /// A disk of 8 MiB with two partitions of raw bytes.
    private func makeDisk(seed: UInt64 = 5) throws -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        var bytes = [UInt8](repeating: 0, count: 8 << 20)
        for index in 1 << 20..<5 << 20 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        try Files.write(bytes, to: FilePath(path("disk")))
        let table = "label: gpt\nstart=2048, size=4096\nstart=6144, size=4096\n"
        let run = try ChildProcess.run(["sfdisk", "-q", path("disk")], input: Array(table.utf8))
        try #require(run.succeeded, "\(run.lastWords)")
        return try Files.read(FilePath(path("disk")), limit: 1 << 30)
    }

    private func capture(into repository: String, _ password: String?) throws -> CaptureReport {
        var job = CaptureJob(disk: path("disk"), image: repository)
        (job.host, job.diskName) = ("web1", "sda")
        return try CaptureOperation(job, keys: keys(password), events: events, toolVersion: "test").run()
    }

    private func verify(_ address: String, _ password: String?) throws -> VerifyOperation.Findings {
        var job = VerifyJob(image: address)
        job.readsDataPercent = 100
        return try VerifyOperation(job, keys: keys(password), events: events).run()
    }

    @Test(arguments: [nil, "sesame"]) func holdsRepositories(password: String?) throws {
        let (one, other) = (toy("one"), toy("folder/other"))
        for name in [one, other] as [String] {
            var made = InitRepositoryJob(repository: name)
            made.encrypts = password != nil
            _ = try InitRepositoryOperation(made, keys: keys(password), likeKeys: keys(), events: events).run()
        }
        let before = try makeDisk()
        let first = try capture(into: one + "@", password)
        // Snapshots are dated by the second: of two in one second, either is the latest.
        SystemFacts.sleep(seconds: 1.1)
        let after = try makeDisk(seed: 6)
        let second = try capture(into: one, password)

        let listed = try SnapshotsOperation(SnapshotsJob(repository: one), keys: keys(password), events: events).run()
        #expect(listed.repository == one && Set(listed.snapshots.map(\.id)) == [first.imageID, second.imageID])
        let compared = DiffJob(from: "\(one)@\(first.imageID)", to: "\(one)@latest")
        let difference = try DiffOperation(compared, keys: keys(password), events: events).run()
        #expect(difference.partitions.filter { $0.partition != nil }.map(\.changedByteCount) == [2 << 20, 2 << 20])
        #expect(try verify(one, password).isWhole)

        let target = path("target")
        for (name, bytes) in [("web1/sda/latest", after), (first.imageID, before)] {
            try Files.write([UInt8](repeating: 0xEE, count: 8 << 20), to: FilePath(target))
            var job = RestoreJob(image: "\(one)@\(name)", disk: target)
            (job.isConfirmed, job.layout) = (true, "keep")
            let confirmer = FixedConfirmer(text: target)
            let restored = try RestoreOperation(
                job, keys: keys(password), events: events, confirmer: confirmer
            ).run()
            #expect(restored.diskState == .complete)
            #expect(try Files.read(FilePath(target), limit: 1 << 30) == bytes)
        }

        let copied = try CopyOperation(
            CopyJob(source: one + "@", destination: other + "@"), keys: keys(password), targetKeys: keys(password),
            hasOwnPassword: false, events: events
        ).run()
        #expect(copied.copies.count == 2)
        let itself = CopyJob(source: one + "@", destination: one + "@")
        #expect(throws: JobFailure.self) {
            try CopyOperation(
                itself, keys: keys(password), targetKeys: keys(password), hasOwnPassword: false, events: events
            ).run()
        }

        var policy = ForgetJob(repository: one)
        policy.keepsLast = 1
        #expect(try ForgetOperation(policy, keys: keys(password), events: events).run().forgotten.count == 1)
        let pruned = try PruneOperation(PruneJob(repository: one), keys: keys(password), events: events).run()
        #expect(pruned.snapshots == 1 && pruned.missingCount == 0)
        #expect(try verify(one, password).isWhole && verify(other, password).isWhole)
        try ToyStore.damage(other)
        #expect(try !verify(other, password).isWhole)
    }

    @Test func whatIsMissingOrMistakenIsRefused() throws {
        _ = try makeDisk()
        #expect(throws: (any Error).self) { try capture(into: toy("missing@"), nil) }
        #expect(throws: JobFailure.self) { try capture(into: toy("missing@no such snapshot"), nil) }
        let named = InitRepositoryJob(repository: toy("one@two"))
        #expect(throws: JobFailure.self) {
            try InitRepositoryOperation(named, keys: keys(), likeKeys: keys(), events: events).run()
        }
        // An unknown scheme is a path, as ever.
        #expect(!Files.exists(FilePath("yot:/")))
        #expect(throws: (any Error).self) { try verify("yot://\(shelf)/one", nil) }
    }
}
