// SPDX-License-Identifier: GPL-3.0-or-later

/// Sizes in text form.
package enum SizeText {
    /// Bytes from `512`, `64K`, `20G`, `2T`, either case, binary units, with or without `B` or `iB`; `nil` for other
    /// texts and for sizes that do not fit 64 bits.
    package static func parse(_ text: some StringProtocol) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, let number = UInt64(digits) else { return nil }
        let shift: UInt64
        switch text.dropFirst(digits.count).lowercased() {
        case "", "b": shift = 0
        case "k", "kib": shift = 10
        case "m", "mib": shift = 20
        case "g", "gib": shift = 30
        case "t", "tib": shift = 40
        default: return nil
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        return overflow ? nil : bytes
    }
}
