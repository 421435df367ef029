// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc

/// A moment in calendar and wall-clock terms (proleptic Gregorian calendar), without its time zone.
package struct CalendarTime: Hashable, Sendable, Comparable {
    package var year: Int
    /// The month, from 1.
    package var month: Int
    /// The day of the month, from 1.
    package var day: Int
    /// The hour, 0 to 23.
    package var hour: Int
    package var minute: Int
    package var second: Int

    /// From parts; `nil` for a date or time that does not exist. Years from 1970 to 9999.
    package init?(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
        guard (1970...9999).contains(year), (1...12).contains(month), day >= 1,
            day <= Self.dayCount(year: year, month: month), (0...23).contains(hour), (0...59).contains(minute),
            (0...59).contains(second)
        else { return nil }
        self.year = year
        self.month = month
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
    }

    /// The reading of a clock `offset` seconds ahead of UTC at `unixSeconds` (clamped to the years 1970 to 9999).
    package init(unixSeconds: Int64, aheadOfUTC offset: Int = 0) {
        let latest: Int64 = 253_402_300_799
        let moved = min(max(unixSeconds, 0), latest) + Int64(min(max(offset, -86_400), 86_400))
        let seconds = min(max(moved, 0), latest)
        // Days of a year that starts in March: the lengths of its months before the last follow one rule.
        let days = seconds / 86_400 + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * monthFromMarch + 2) / 5) + 1
        month = Int(monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
        let rest = Int(seconds % 86_400)
        hour = rest / 3600
        minute = rest / 60 % 60
        second = rest % 60
    }

    /// The local time at `unixSeconds`.
    ///
    /// The corresponding C function is `localtime_r`.
    package static func local(unixSeconds: Int64) -> CalendarTime {
        var seconds = time_t(min(max(unixSeconds, 0), 253_402_300_799))
        var parts = tm()
        localtime_r(&seconds, &parts)
        return CalendarTime(unixSeconds: unixSeconds, aheadOfUTC: parts.tm_gmtoff)
    }

    /// The moment at which a clock in UTC shows this time, in seconds since 1970.
    package var unixSecondsInUTC: Int64 {
        Int64(dayNumber) * 86_400 + Int64(hour * 3600 + minute * 60 + second)
    }

    /// The moment at which the local clock shows this time, in seconds since 1970; the later one where an hour occurs
    /// twice. A time that is skipped (the clock is put forward) counts as if the clock had not been changed.
    ///
    /// The corresponding C function is `mktime`.
    package var unixSecondsInLocalTime: Int64 {
        // Both readings are computed, because it is unspecified which one `mktime` prefers.
        let moments = [0, 1, -1].map { (isDST: Int32) -> Int64 in
            var parts = tm()
            parts.tm_year = Int32(year - 1900)
            parts.tm_mon = Int32(month - 1)
            parts.tm_mday = Int32(day)
            parts.tm_hour = Int32(hour)
            parts.tm_min = Int32(minute)
            parts.tm_sec = Int32(second)
            parts.tm_isdst = isDST
            return Int64(mktime(&parts))
        }
        return moments.filter { Self.local(unixSeconds: $0) == self }.max() ?? moments[2]
    }

    /// The ISO 8601 week: Monday to Sunday; week 1 is the one with the year's first Thursday.
    package var isoWeek: (year: Int, week: Int) {
        // 1970-01-01 was a Thursday. The week belongs to the year of its Thursday.
        let weekday = (dayNumber + 3) % 7
        let thursday = CalendarTime(unixSeconds: Int64(dayNumber - weekday + 3) * 86_400)
        guard let newYear = CalendarTime(year: thursday.year, month: 1, day: 1) else { return (year, 1) }
        return (thursday.year, (thursday.dayNumber - newYear.dayNumber) / 7 + 1)
    }

    /// `2026-11-22`.
    package var dayText: String { "\(year)-\(Self.two(month))-\(Self.two(day))" }
    /// `2026-11-22 15:00:05`.
    package var text: String { "\(dayText) \(Self.two(hour)):\(Self.two(minute)):\(Self.two(second))" }
    /// `2026-11`.
    package var monthText: String { "\(year)-\(Self.two(month))" }
    /// `2026-W47`.
    package var weekText: String { "\(isoWeek.year)-W\(Self.two(isoWeek.week))" }

    /// By time.
    package static func < (a: CalendarTime, b: CalendarTime) -> Bool { a.unixSecondsInUTC < b.unixSecondsInUTC }

    /// Days since 1970-01-01.
    private var dayNumber: Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func dayCount(year: Int, month: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
