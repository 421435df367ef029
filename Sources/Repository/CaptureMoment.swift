// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

/// The start time of a capture into a repository, by the clock that orders its snapshots: the store's clock. The clock
/// of a recovery machine may have lost its battery.
package struct CaptureMoment: Equatable, Sendable {
    /// In seconds since 1970.
    package var unixSeconds: Int64
    /// A remark for the user.
    package var note: String?

    /// A known moment.
    package init(unixSeconds: Int64, note: String? = nil) {
        self.unixSeconds = unixSeconds
        self.note = note
    }

    /// Clocks that differ by less, in seconds, count as the same.
    static let tolerance: Int64 = 5 * 60
    /// A clock that shows an earlier time was never set: this program was built after it (2025-01-01).
    static let earliest: Int64 = 1_735_689_600

    /// Chooses the clock.
    /// - Parameters:
    ///   - local: this machine's clock.
    ///   - store: the store's clock; `nil` if unknown.
    ///   - newest: the newest snapshot.
    ///   - trustsClock: use this machine's clock without any check.
    static func decide(
        local: Int64, store: Int64?, newest: SnapshotInfo?, trustsClock: Bool = false
    ) throws(ImageError) -> CaptureMoment {
        guard !trustsClock else { return CaptureMoment(unixSeconds: local) }
        let newestSeconds = newest?.startedSeconds
        func isPlausible(_ time: Int64) -> Bool {
            time >= earliest
                && time >= (newestSeconds.map { $0.subtractingReportingOverflow(tolerance).partialValue } ?? .min)
        }
        /// Moved behind the newest snapshot if both are about the same time.
        func moment(_ time: Int64, _ note: String? = nil) -> CaptureMoment {
            let least = newestSeconds.map { $0 > time ? $0 + 1 : $0 } ?? time
            return CaptureMoment(unixSeconds: max(time, least), note: note)
        }
        let said = "this machine's clock says \(SystemFacts.utcText(local))"
        if let store, isPlausible(store) {
            let difference = store.subtractingReportingOverflow(local).partialValue
            guard difference.magnitude > UInt64(tolerance) else { return moment(store) }
            return moment(
                store,
                "\(said), that of the repository \(SystemFacts.utcText(store)): the snapshot is dated by the latter")
        }
        let storeText = store.map { ", that of the repository \(SystemFacts.utcText($0))" } ?? ""
        if isPlausible(local) {
            return moment(local, store == nil ? nil : "\(said)\(storeText): the snapshot is dated by the former")
        }
        guard let newest else {
            // There is no snapshot to compare it with.
            return CaptureMoment(
                unixSeconds: max(local, store ?? local),
                note: "\(said)\(storeText), which cannot be right: set it (date -u -s …)")
        }
        throw .refused(
            "\(said)\(storeText), but the newest snapshot, \(newest.summary), is later: this one would count as older than it. "
                + "Set the clock (date -u -s '2026-11-22 15:00'); or, if it is right and that snapshot's time is not, add --trust-clock"
        )
    }
}

extension Repository {
    /// The start time of a capture into this repository.
    /// - Parameters:
    ///   - lock: the capture's lock.
    ///   - trustsClock: use this machine's clock without any check.
    /// - Throws: `ImageError.refused` if no clock can be right.
    package func captureMoment(lock: RepositoryLock, trustsClock: Bool) throws(ImageError) -> CaptureMoment {
        try CaptureMoment.decide(
            local: SystemFacts.unixSeconds(), store: lock.keeperSeconds(), newest: try newestSnapshot(),
            trustsClock: trustsClock)
    }

    /// Upper bound on the snapshot bytes read to find the newest one.
    private static let largestSearch: UInt64 = 64 << 20

    /// The newest readable snapshot. If there are very many, only the most recently written files are read.
    func newestSnapshot() throws(ImageError) -> SnapshotInfo? {
        var files: [(id: ContentHash, status: ObjectStatus)] = []
        for id in try snapshotIDs() {
            if let status = try store.status(.snapshot(id)) { files.append((id, status)) }
        }
        files.sort { $0.status.modified > $1.status.modified }
        var byteCount: UInt64 = 0
        var newest: SnapshotInfo?
        for file in files where byteCount < Self.largestSearch {
            byteCount += file.status.byteCount
            guard let info = try? snapshot(file.id).info, info.startedSeconds != nil else { continue }
            if newest.map({ SnapshotInfo.isOlder($0, than: info) }) ?? true { newest = info }
        }
        return newest
    }
}
