// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import ObjectStore
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// The choice of the clock that dates a snapshot.
@Suite struct CaptureMomentTests {
    /// 2026-11-22 at noon, in UTC, and a clock that was never set.
    static let noon: Int64 = 1_795_348_800
    static let dead: Int64 = 1_230_768_000

    private func decide(
        local: Int64, store: Int64?, newest: Int64?, trustsClock: Bool = false
    ) throws(ImageError) -> CaptureMoment {
        try CaptureMoment.decide(
            local: local, store: store, newest: newest.map { SnapshotInfo.made(1, at: $0) }, trustsClock: trustsClock)
    }

    @Test func theStoresClockCounts() throws {
        let noon = Self.noon
        // A few seconds apart: no note.
        #expect(try decide(local: noon - 4, store: noon, newest: noon - 60) == CaptureMoment(unixSeconds: noon))
        #expect(try decide(local: noon, store: nil, newest: noon - 60) == CaptureMoment(unixSeconds: noon))
        // A dead local clock, or one that is hours off.
        for local in [Self.dead, noon + 7200, noon - 7200] {
            for newest in [nil, noon - 60] {
                let moment = try decide(local: local, store: noon, newest: newest)
                #expect(moment.unixSeconds == noon && moment.note?.contains(SystemFacts.utcText(local)) == true)
            }
        }
        // A dead clock of the store.
        let moment = try decide(local: noon, store: Self.dead, newest: noon - 60)
        #expect(moment.unixSeconds == noon && moment.note?.contains(SystemFacts.utcText(Self.dead)) == true)
        // Seconds before the newest snapshot: still dated after it.
        #expect(try decide(local: noon, store: noon, newest: noon + 20).unixSeconds == noon + 21)
        #expect(try decide(local: noon, store: noon, newest: noon).unixSeconds == noon)
    }

    @Test func whatCannotBeRightIsRefused() throws {
        for clocks in [(Self.dead, Self.dead), (Self.dead, nil), (Self.noon - 3600, Self.noon - 3600)] {
            do {
                _ = try decide(local: clocks.0, store: clocks.1, newest: Self.noon)
                Issue.record("not refused: \(clocks)")
            } catch ImageError.refused(let why) {
                #expect(why.contains("date -u -s") && why.contains("--trust-clock"), "\(why)")
            }
            let moment = try decide(local: clocks.0, store: clocks.1, newest: Self.noon, trustsClock: true)
            #expect(moment == CaptureMoment(unixSeconds: clocks.0))
        }
        // A note, because there is no snapshot to compare with.
        let first = try decide(local: Self.dead, store: Self.dead, newest: nil)
        #expect(first.unixSeconds == Self.dead && first.note?.contains("cannot be right") == true)
    }

    /// With a repository: the newest of all disks counts, and `latest` and the policy keep the last capture.
    @Test func latestIsTheLast() throws {
        let fixture = try PruneFixture()
        let now = SystemFacts.unixSeconds()
        var disk = try fixture.disk(started: SystemFacts.utcText(now - 3600))
        try fixture.capture(disk)
        let lock = try RepositoryLock.acquire(in: LocalStore(fixture.path), operation: .capture)
        let moment = try fixture.repository.captureMoment(lock: lock, trustsClock: false)
        #expect(moment.note == nil)
        #expect((now - 2...SystemFacts.unixSeconds() + 2).contains(moment.unixSeconds))
        // With a local clock of 2009, and the store's.
        let newest = try #require(try fixture.repository.newestSnapshot())
        let stamped = try CaptureMoment.decide(local: Self.dead, store: now, newest: newest)
        disk.header.manifest.started = SystemFacts.utcText(stamped.unixSeconds)
        let last = try fixture.capture(disk)
        let (whole, _) = fixture.repository.snapshotInfos()
        let selector = SnapshotQuery(
            repository: fixture.path.string, host: nil, disk: nil, choice: .latest, text: "\(fixture.path)@latest",
            forms: "")
        #expect(try selector.resolve(in: whole).id == last)
        let report = try fixture.repository.forget(policy: RetentionPolicy(keepLast: 1), dryRun: true)
        #expect(report.groups.first?.kept.map(\.snapshot.id) == [last])
        // A snapshot dated in the future: then no clock is right.
        var future = try fixture.disk(started: "2099-01-01T00:00:00Z")
        future.header.manifest.note = "future"
        try fixture.capture(future, host: "other")
        #expect(throws: ImageError.self) { try fixture.repository.captureMoment(lock: lock, trustsClock: false) }
        #expect(try fixture.repository.captureMoment(lock: lock, trustsClock: true).note == nil)
        lock.release()
    }
}
