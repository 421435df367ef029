// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

@Suite struct RetentionTests {
    static let day: Int64 = 86_400
    /// 2026-11-22 (a Sunday) at noon, in UTC.
    static let noon: Int64 = 1_795_348_800

    private func groups(_ policy: RetentionPolicy, _ snapshots: [SnapshotInfo]) throws -> [RetentionPolicy.Group] {
        try policy.groups(snapshots) { CalendarTime(unixSeconds: $0) }
    }

    @Test func keepsAYearOfNights() throws {
        // Two a day for 400 days.
        let snapshots = (0..<800).map { SnapshotInfo.made($0, at: Self.noon - Int64($0) * Self.day / 2) }
        let policy = RetentionPolicy(keepLast: 3, daily: 7, weekly: 4, monthly: 12, yearly: 2)
        var random = SeededGenerator(seed: Sample.seed())
        let group = try #require(try groups(policy, snapshots.shuffled(using: &random)).first)
        let reasons = Dictionary(
            uniqueKeysWithValues: group.kept.map { ($0.snapshot.started, $0.reasons) })
        #expect(
            reasons["2026-11-22T12:00:00Z"]
                == ["last 1", "day 2026-11-22", "week 2026-W47", "month 2026-11", "year 2026"])
        #expect(reasons["2026-11-22T00:00:00Z"] == ["last 2"])
        #expect(reasons["2026-11-21T12:00:00Z"] == ["last 3", "day 2026-11-21"])
        #expect(reasons["2026-11-20T12:00:00Z"] == ["day 2026-11-20"])
        #expect(reasons["2026-11-16T12:00:00Z"] == ["day 2026-11-16"])
        #expect(reasons["2026-11-15T12:00:00Z"] == ["week 2026-W46"])
        #expect(reasons["2026-11-01T12:00:00Z"] == ["week 2026-W44"])
        #expect(reasons["2026-10-31T12:00:00Z"] == ["month 2026-10"])
        #expect(reasons["2025-12-31T12:00:00Z"] == ["month 2025-12", "year 2025"])
        #expect(group.kept.count == 3 + 6 - 1 + 3 + 11)
        #expect(group.kept.count + group.forgotten.count == 800)
    }

    @Test func countsByHostDiskAndTags() throws {
        var random = SeededGenerator(seed: Sample.seed())
        var snapshots: [SnapshotInfo] = []
        for (index, place) in [
            ("a", "x", []), ("a", "y", []), ("b", "x", []), ("b", "x", ["t"]), ("b", "x", ["t", "u"]),
        ]
        .enumerated() {
            for age in 0..<3 {
                snapshots.append(
                    .made(
                        index * 10 + age, host: place.0, disk: place.1, at: Self.noon - Int64(age) * Self.day,
                        tags: place.2.shuffled(using: &random)))
            }
        }
        let groups = try groups(RetentionPolicy(keepLast: 1), snapshots)
        #expect(groups.count == 5)
        #expect(groups.allSatisfy { $0.kept.count == 1 && $0.forgotten.count == 2 })
        #expect(groups.allSatisfy { $0.kept.first?.snapshot.startedSeconds == Self.noon })
    }

    @Test func refusesToForgetEverything() throws {
        #expect(throws: ImageError.self) { try groups(RetentionPolicy(), [.made(1, at: Self.noon)]) }
        #expect(throws: ImageError.self) { try groups(RetentionPolicy(keepLast: -1, daily: -7), []) }
        // A snapshot with an unreadable time is kept.
        var strange = SnapshotInfo.made(1, at: Self.noon)
        strange.started = "yesterday"
        let group = try #require(try groups(RetentionPolicy(keepLast: 1), [strange, .made(2, at: 0)]).first)
        #expect(group.forgotten.isEmpty && group.kept.count == 2)
    }

    @Test func properties() throws {
        let seed = Sample.seed()
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let span = [Self.day, 30 * Self.day, 2000 * Self.day].randomElement(using: &random) ?? Self.day
            let snapshots = (0..<Int.random(in: 1...60, using: &random)).map { number in
                SnapshotInfo.made(
                    number, host: ["a", "b"].randomElement(using: &random) ?? "a",
                    at: Self.noon - Int64.random(in: 0...span, using: &random),
                    tags: Bool.random(using: &random) ? ["t"] : [])
            }
            var counts = (0..<5).map { _ in Int.random(in: 0...4, using: &random) }
            counts[Int.random(in: 0..<5, using: &random)] += 1
            func policy(_ counts: [Int]) -> RetentionPolicy {
                RetentionPolicy(
                    keepLast: counts[0], daily: counts[1], weekly: counts[2], monthly: counts[3], yearly: counts[4])
            }
            let decided = try groups(policy(counts), snapshots)
            for group in decided {
                // Every policy keeps the newest snapshot.
                let all = group.kept.map(\.snapshot) + group.forgotten
                let newest = all.max { SnapshotInfo.isOlder($0, than: $1) }
                #expect(group.kept.first?.snapshot == newest)
                #expect(group.kept.allSatisfy { !$0.reasons.isEmpty })
            }
            let kept = decided.flatMap(\.kept).map(\.snapshot)
            #expect(kept.count + decided.flatMap(\.forgotten).count == snapshots.count)
            // A second run forgets nothing.
            #expect(try groups(policy(counts), kept).allSatisfy { $0.forgotten.isEmpty })
            // A policy that keeps more keeps at least the same snapshots.
            var more = counts
            more[Int.random(in: 0..<5, using: &random)] += Int.random(in: 1...3, using: &random)
            let keptByMore = Set(try groups(policy(more), snapshots).flatMap(\.kept).map(\.snapshot.id))
            #expect(kept.allSatisfy { keptByMore.contains($0.id) })
        }
    }
}
