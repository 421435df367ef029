// SPDX-License-Identifier: GPL-3.0-or-later

/// A time as people and files write it (RFC 3339, and shorter): `2026-11-22T15:00:05Z`, `2026-11-22T15:00+01:00`,
/// `2026-11-22T15:00`, `2026-11-22`.
package struct TimeText: Equatable, Sendable {
    /// What the clock showed; of a bare date, its first second.
    package var time: CalendarTime
    /// Whether it is a bare date.
    package var isDate: Bool
    /// How far that clock was ahead of UTC, in seconds; `nil` where the text does not say, and local time is meant.
    package var offsetSeconds: Int?

    /// Reads a text; `nil` for anything else.
    package init?(_ text: some StringProtocol) {
        var rest = Substring(text)[...]
        func number(_ digitCount: Int) -> Int? {
            let digits = rest.utf8.prefix(digitCount)
            guard digits.count == digitCount, digits.allSatisfy({ (48...57).contains($0) }) else { return nil }
            rest = rest.dropFirst(digitCount)
            return digits.reduce(0) { $0 * 10 + Int($1) - 48 }
        }
        func take(_ characters: String) -> Bool {
            guard let first = rest.first, characters.contains(first) else { return false }
            rest = rest.dropFirst()
            return true
        }
        guard let year = number(4), take("-"), let month = number(2), take("-"), let day = number(2) else { return nil }
        guard !rest.isEmpty else {
            guard let date = CalendarTime(year: year, month: month, day: day) else { return nil }
            time = date
            isDate = true
            return
        }
        guard take("Tt "), let hour = number(2), take(":"), let minute = number(2) else { return nil }
        var second = 0
        if take(":") {
            guard let value = number(2) else { return nil }
            second = value
            // Parts of a second are passed over.
            if take(".") {
                guard number(1) != nil else { return nil }
                while number(1) != nil {}
            }
        }
        guard
            let whole = CalendarTime(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
        else { return nil }
        time = whole
        isDate = false
        if take("Zz") {
            offsetSeconds = 0
        } else if let sign = rest.first, take("+-") {
            guard let hours = number(2), hours <= 23 else { return nil }
            _ = take(":")
            guard let minutes = number(2), minutes <= 59 else { return nil }
            offsetSeconds = (hours * 3600 + minutes * 60) * (sign == "-" ? -1 : 1)
        }
        guard rest.isEmpty else { return nil }
    }

    /// The moment that is meant, in seconds since 1970 in UTC.
    package var unixSeconds: Int64 {
        guard let offsetSeconds else { return time.unixSecondsInLocalTime }
        return time.unixSecondsInUTC - Int64(offsetSeconds)
    }
}
