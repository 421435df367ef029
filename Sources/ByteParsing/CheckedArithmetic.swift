// SPDX-License-Identifier: GPL-3.0-or-later

extension FixedWidthInteger {
    /// The sum, or an error that names it as `what`. For every number read from a disk.
    package func adding(_ other: Self, _ what: @autoclosure () -> String) throws(ParsingError) -> Self {
        let (value, overflow) = addingReportingOverflow(other)
        guard !overflow else { throw .overflow(what: what()) }
        return value
    }

    /// The difference, or an error that names it as `what`.
    package func subtracting(_ other: Self, _ what: @autoclosure () -> String) throws(ParsingError) -> Self {
        let (value, overflow) = subtractingReportingOverflow(other)
        guard !overflow else { throw .overflow(what: what()) }
        return value
    }

    /// The product, or an error that names it as `what`.
    package func multiplied(by other: Self, _ what: @autoclosure () -> String) throws(ParsingError) -> Self {
        let (value, overflow) = multipliedReportingOverflow(by: other)
        guard !overflow else { throw .overflow(what: what()) }
        return value
    }

    /// The quotient rounded up; an error where `divisor` is zero.
    package func dividedRoundingUp(by divisor: Self, _ what: @autoclosure () -> String) throws(ParsingError) -> Self {
        guard divisor > 0 else { throw .invalid(what: what()) }
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder > 0 ? quotient + 1 : quotient
    }
}

extension FixedWidthInteger where Self: UnsignedInteger {
    /// This number rounded down to a multiple of `unit` (a nonzero constant of the program, not of a disk).
    package func roundedDown(toMultipleOf unit: Self) -> Self { self - self % unit }

    /// This number rounded up to a multiple of `unit`; `nil` if that does not fit.
    package func roundedUp(toMultipleOf unit: Self) -> Self? {
        let remainder = self % unit
        guard remainder > 0 else { return self }
        let (value, overflow) = addingReportingOverflow(unit - remainder)
        return overflow ? nil : value
    }
}
