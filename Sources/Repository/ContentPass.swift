// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem

/// The second pass of verify: reads whole packs, chosen at random, on several threads, and identifies their contents.
struct ContentPass {
    private let repository: Repository
    private let percent: Double
    private let seed: UInt64
    private var store: StoreAccess { repository.store }

    /// Upper bound on the damaged contents listed by name.
    private static let largestDamage = 1 << 16

    /// - Parameters:
    ///   - percent: share of the packs to read.
    ///   - seed: selects the packs to read.
    init(_ repository: Repository, percent: Double, seed: UInt64) {
        self.repository = repository
        self.percent = percent
        self.seed = seed
    }

    /// State shared by the reading threads.
    private struct Reading {
        var waiting = 0
        var readCount: UInt64 = 0
        var readByteCount: UInt64 = 0
        var damage: [(entry: IndexEntry?, what: String, isUnread: Bool)] = []
        /// Damage beyond `largestDamage`.
        var unlistedCount = 0
    }

    /// - Parameters:
    ///   - packs: the existing packs, with their lengths.
    ///   - references: the contents to read; `nil` for all contents of all packs.
    func run(
        _ packs: [StoreName: UInt64], _ references: PruneReferences?, _ report: inout VerifyReport,
        _ progress: (VerifyProgress) -> Void
    ) throws(ImageError) -> DamagedContents {
        var names = packs.keys.sorted()
        if let references { names = try packsOf(references, names) }
        let total = names.reduce(0) { $0 + (packs[$1] ?? 0) }
        report.storedByteCount = total
        if percent < 100 { names = Self.shuffled(names, seed: seed) }
        let wanted = percent >= 100 ? UInt64.max : UInt64(Double(total) * max(0, percent) / 100)
        let reading = Monitor(Reading())
        let queue = BoundedQueue<[IndexEntry]>(capacity: 2)
        let repository = repository
        var threads: [WorkerThread] = []
        defer {
            queue.close()
            for thread in threads { thread.join() }
        }
        do {
            for _ in 0..<max(1, SystemFacts.processorCount()) {
                threads.append(try WorkerThread { Self.read(queue, repository, reading) })
            }
        } catch { throw .system(error) }
        var chosen: UInt64 = 0
        var packsChosen = 0
        for name in names where chosen < wanted {
            chosen += packs[name] ?? 0
            packsChosen += 1
        }
        for name in names.prefix(packsChosen) {
            let entries: [IndexEntry]
            do throws(ImageError) {
                let table = try PackFile(name, store, repository.secrets).table()
                if let references { entries = try Self.needed(table, references) } else { entries = table }
            } catch {
                // The structure pass has reported damage of the table. A pack that was whole then and cannot be read
                // now was not reported, and an unread pack must never pass for whole. A missing pack was removed by a
                // prune.
                if case .system = error, !error.isMissingFile,
                    !report.problems.contains(where: { $0.what == "\(error)" })
                {
                    report.add("\(error)")
                }
                continue
            }
            guard !entries.isEmpty else { continue }
            reading.update { $0.waiting += 1 }
            queue.push(entries)
            let done = reading.update { $0.readByteCount }
            progress(.init(phase: .contents, done: done, total: chosen))
        }
        _ = reading.wait { $0.waiting == 0 ? true : nil }
        let result = reading.update { $0 }
        report.readCount = result.readCount
        report.readByteCount = result.readByteCount
        progress(.init(phase: .contents, done: result.readByteCount, total: max(chosen, result.readByteCount)))
        var contents = DamagedContents()
        for damage in result.damage {
            if let entry = damage.entry {
                contents.add(entry, damage.what, isUnread: damage.isUnread)
            } else {
                report.add(damage.what)
            }
        }
        if result.unlistedCount > 0 {
            report.add("\(result.unlistedCount) more contents are damaged; the snapshots that need them are not listed")
        }
        return contents
    }

    private static func needed(
        _ table: [IndexEntry], _ references: PruneReferences
    ) throws(ImageError) -> [IndexEntry] {
        var result: [IndexEntry] = []
        for entry in table where try references.isNeeded(entry) { result.append(entry) }
        return result
    }

    /// The packs with needed contents.
    private func packsOf(_ references: PruneReferences, _ names: [StoreName]) throws(ImageError) -> [StoreName] {
        var used: Set<StoreName> = []
        var cursor = try references.indexes.mergedCursor()
        while let hit = try cursor.next() {
            if references.isNeeded(hit) { used.insert(hit.hit.entry.location.pack) }
        }
        return names.filter { used.contains($0) }
    }

    private static func shuffled(_ names: [StoreName], seed: UInt64) -> [StoreName] {
        /// SplitMix64.
        struct Generator: RandomNumberGenerator {
            var state: UInt64
            mutating func next() -> UInt64 {
                state &+= 0x9E37_79B9_7F4A_7C15
                var mixed = state
                mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
                mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
                return mixed ^ mixed >> 31
            }
        }
        var generator = Generator(state: seed)
        return names.shuffled(using: &generator)
    }

    /// Body of a thread: takes the entries of a pack, reads the contents, compares them with their ids.
    private static func read(
        _ queue: BoundedQueue<[IndexEntry]>, _ repository: Repository, _ reading: Monitor<Reading>
    ) {
        let check = ContentCheck(repository)
        while let entries = queue.pop() {
            var count: UInt64 = 0
            var byteCount: UInt64 = 0
            var damage: [(entry: IndexEntry?, what: String, isUnread: Bool)] = []
            let pack: PackFile?
            do {
                pack = try entries.first.map { try PackFile($0.location.pack, repository.store, repository.secrets) }
            } catch {
                pack = nil
                if !((error as? ImageError)?.isMissingFile ?? false) { damage.append((nil, "\(error)", true)) }
            }
            if let pack {
                for entry in entries {
                    count += 1
                    byteCount += UInt64(entry.location.storedByteCount)
                    do {
                        try pack.checkRecord(entry)
                        _ = try check.stored(entry, in: pack)
                    } catch {
                        // An error of the medium or its connection may be temporary: it proves no damage.
                        var isUnread = false
                        if case .system = error { isUnread = true }
                        damage.append((entry, "\(error)", isUnread))
                    }
                }
            }
            reading.update {
                $0.readCount += count
                $0.readByteCount += byteCount
                // Beyond this, everything is damaged anyway.
                let room = max(0, Self.largestDamage - $0.damage.count)
                $0.damage += damage.prefix(room)
                $0.unlistedCount += max(0, damage.count - room)
                $0.waiting -= 1
            }
        }
    }
}
