// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem

/// How many snapshots of a disk are kept.
///
/// Each rule keeps the newest snapshot of each of the newest so many days (weeks, …) that have one; a snapshot that any
/// rule keeps is kept. Rules are counted for each host, disk and set of tags by itself.
package struct RetentionPolicy: Equatable, Sendable {
    /// The newest so many.
    package var last: Int
    /// The newest of each of so many days.
    package var daily: Int
    /// The newest of each of so many weeks (ISO 8601: from Monday).
    package var weekly: Int
    /// The newest of each of so many months.
    package var monthly: Int
    /// The newest of each of so many years.
    package var yearly: Int

    /// From counts; what is below zero counts as zero.
    package init(keepLast: Int = 0, daily: Int = 0, weekly: Int = 0, monthly: Int = 0, yearly: Int = 0) {
        last = max(0, keepLast)
        self.daily = max(0, daily)
        self.weekly = max(0, weekly)
        self.monthly = max(0, monthly)
        self.yearly = max(0, yearly)
    }

    /// Whether it would keep nothing at all. Such a policy is refused.
    package var isEmpty: Bool { [last, daily, weekly, monthly, yearly].allSatisfy { $0 == 0 } }

    /// What stays and what goes of one disk of one host with one set of tags.
    package struct Group: Equatable, Sendable {
        /// The host.
        package var host: String
        /// The disk.
        package var disk: String
        /// The tags, sorted.
        package var tags: [String]
        /// What stays, newest first, and why: `last 1`, `day 2026-11-22`, `week 2026-W47`, `month 2026-11`, `year 2026`.
        package var kept: [Kept]
        /// What goes, newest first.
        package var forgotten: [SnapshotInfo]
    }

    /// A snapshot that stays.
    package struct Kept: Equatable, Sendable {
        /// Which one.
        package var snapshot: SnapshotInfo
        /// Why.
        package var reasons: [String]
    }

    /// Sorts snapshots in those that stay and those that go, by group; groups by host, disk and tags.
    /// - Parameter calendar: what a calendar shows at a moment (seconds since 1970): the local one, as days are meant as
    ///   people live them.
    /// - Throws: `ImageError.ambiguous` for a policy that keeps nothing: that is more likely a mistake than a wish.
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
        /// A rule: how many it still keeps, how it calls a span of time, and the span that it kept last.
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
                // Nobody can say how old it is.
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
