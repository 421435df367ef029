// SPDX-License-Identifier: GPL-3.0-or-later

/// A time in RFC 3339 form, or shorter: `2026-11-22T15:00:05Z`, `2026-11-22T15:00+01:00`,
/// `2026-11-22T15:00`, `2026-11-22`.
package struct TimeText: Equatable, Sendable {
    /// The wall-clock time; for a bare date, its first second.
    package var time: CalendarTime
    /// Whether it is a bare date.
    package var isDate: Bool
    /// The offset from UTC in seconds; `nil` if the text has none and local time is meant.
    package var offsetSeconds: Int?

    /// Parses a text; `nil` if it is no such time.
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
            // Fractions of a second are ignored.
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

    /// The moment in seconds since 1970 in UTC.
    package var unixSeconds: Int64 {
        guard let offsetSeconds else { return time.unixSecondsInLocalTime }
        return time.unixSecondsInUTC - Int64(offsetSeconds)
    }
}
