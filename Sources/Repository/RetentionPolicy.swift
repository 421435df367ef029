// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem

/// The rules for keeping snapshots of a disk.
///
/// Each rule keeps the newest snapshot of each of the N newest days (weeks, …) that have one; a snapshot kept by any
/// rule is kept. Rules apply separately to each host, disk and set of tags.
package struct RetentionPolicy: Equatable, Sendable {
    /// The number of newest snapshots to keep.
    package var last: Int
    /// The number of days of which the newest snapshot is kept.
    package var daily: Int
    /// The number of weeks (ISO 8601: from Monday) of which the newest snapshot is kept.
    package var weekly: Int
    /// The number of months of which the newest snapshot is kept.
    package var monthly: Int
    /// The number of years of which the newest snapshot is kept.
    package var yearly: Int

    /// Makes a policy; negative counts become zero.
    package init(keepLast: Int = 0, daily: Int = 0, weekly: Int = 0, monthly: Int = 0, yearly: Int = 0) {
        last = max(0, keepLast)
        self.daily = max(0, daily)
        self.weekly = max(0, weekly)
        self.monthly = max(0, monthly)
        self.yearly = max(0, yearly)
    }

    /// Whether it keeps nothing. Such a policy is refused.
    package var isEmpty: Bool { [last, daily, weekly, monthly, yearly].allSatisfy { $0 == 0 } }

    /// The snapshots of one disk of one host with one set of tags, kept and forgotten.
    package struct Group: Equatable, Sendable {
        /// The host.
        package var host: String
        /// The disk.
        package var disk: String
        /// The tags, sorted.
        package var tags: [String]
        /// The kept snapshots, newest first, with reasons: `last 1`, `day 2026-11-22`, `week 2026-W47`, `month
        /// 2026-11`, `year 2026`.
        package var kept: [Kept]
        /// The forgotten snapshots, newest first.
        package var forgotten: [SnapshotInfo]
    }

    /// A kept snapshot.
    package struct Kept: Equatable, Sendable {
        /// The snapshot.
        package var snapshot: SnapshotInfo
        /// The reasons to keep it.
        package var reasons: [String]
    }

    /// Divides snapshots into kept and forgotten ones, by group; groups by host, disk and tags.
    /// - Parameter calendar: the calendar time of a moment (seconds since 1970); local by default, as users mean local
    ///   days.
    /// - Throws: `ImageError.ambiguous` for a policy that keeps nothing: that is more likely a mistake than an
    ///   intention.
    package func groups(
        _ snapshots: [SnapshotInfo], calendar: (Int64) -> CalendarTime = CalendarTime.local(unixSeconds:)
    ) throws(ImageError) -> [Group] {
        guard !isEmpty else {
            throw .ambiguous(
                "forget needs at least one of --keep-last, --keep-daily, --keep-weekly, --keep-monthly and "
                    + "--keep-yearly above 0: it does not forget everything")
        }
        struct Name: Hashable {
            var host: String
            var disk: String
            var tags: [String]
        }
        let byName = Dictionary(grouping: snapshots) {
            Name(host: $0.host, disk: $0.disk, tags: Set($0.tags).sorted())
        }
        let groups = byName.map { name, members in
            group(host: name.host, disk: name.disk, tags: name.tags, members, calendar)
        }
        return groups.sorted {
            ($0.host, $0.disk, $0.tags.joined(separator: "\u{0}"))
                < ($1.host, $1.disk, $1.tags.joined(separator: "\u{0}"))
        }
    }

    private func group(
        host: String, disk: String, tags: [String], _ members: [SnapshotInfo], _ calendar: (Int64) -> CalendarTime
    ) -> Group {
        var result = Group(host: host, disk: disk, tags: tags, kept: [], forgotten: [])
        /// A rule: the remaining count, the name of a time span, and the span kept last.
        struct Rule {
            var left: Int
            var name: (CalendarTime) -> String
            var last = ""
        }
        var rules = [
            Rule(left: daily) { "day \($0.dayText)" }, Rule(left: weekly) { "week \($0.weekText)" },
            Rule(left: monthly) { "month \($0.monthText)" }, Rule(left: yearly) { "year \($0.year)" },
        ]
        var lastCount = 0
        for snapshot in members.sorted(by: { SnapshotInfo.isOlder($1, than: $0) }) {
            var reasons: [String] = []
            guard let started = snapshot.startedSeconds else {
                // Its age is unknown.
                result.kept.append(Kept(snapshot: snapshot, reasons: ["its time cannot be read"]))
                continue
            }
            if lastCount < last {
                lastCount += 1
                reasons.append("last \(lastCount)")
            }
            let time = calendar(started)
            for index in rules.indices where rules[index].left > 0 {
                let name = rules[index].name(time)
                guard name != rules[index].last else { continue }
                rules[index].last = name
                rules[index].left -= 1
                reasons.append(name)
            }
            if reasons.isEmpty {
                result.forgotten.append(snapshot)
            } else {
                result.kept.append(Kept(snapshot: snapshot, reasons: reasons))
            }
        }
        return result
    }
}
