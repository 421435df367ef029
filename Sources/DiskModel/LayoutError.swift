// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a layout is impossible.
package enum LayoutError: Error, Equatable, Sendable {
    /// The target has too little room.
    case tooSmall(Shortage)
    /// The requested size of a partition exceeds the room that the others leave.
    case requestTooLarge(number: Int, mostByteCount: UInt64, shortage: Shortage)
    /// A request that no target can meet; one sentence.
    case request(String)
    /// The table cannot represent the result, or does not support planning; one sentence.
    case table(String)

    /// The missing room.
    package struct Shortage: Equatable, Sendable {
        /// The least sufficient size of a target, in bytes.
        package var leastByteCount: UInt64
        /// The size of the target in bytes.
        package var targetByteCount: UInt64
        /// The partitions, in the order of the table.
        package var parts: [Part]
        /// The least sufficient size of a target, in bytes, for the policies that shrink
        /// partitions, where that is smaller.
        package var leastWithShrinking: UInt64?

        package init(
            leastByteCount: UInt64, targetByteCount: UInt64, parts: [Part] = [], leastWithShrinking: UInt64? = nil
        ) {
            self.leastByteCount = leastByteCount
            self.targetByteCount = targetByteCount
            self.parts = parts
            self.leastWithShrinking = leastWithShrinking
        }
    }

    /// The room that a partition needs.
    package struct Part: Equatable, Sendable {
        /// Its number.
        package var number: Int
        /// Its content, such as `xfs`, or its purpose.
        package var name: String
        /// Its length as captured, in bytes.
        package var byteCount: UInt64
        /// Its least possible length in bytes.
        package var leastByteCount: UInt64
        /// The reason for that; half a sentence.
        package var reason: String?

        var sentence: String {
            let size = ByteText.rounded(byteCount)
            let because = reason.map { ": \($0)" } ?? ""
            return switch leastByteCount {
            case byteCount: "partition \(number) (\(name), \(size)) cannot be made smaller\(because)"
            default:
                "partition \(number) (\(name), \(size)) needs at least \(ByteText.rounded(leastByteCount))\(because)"
            }
        }
    }

    /// The least sufficient size of a target, in bytes; `nil` if no size suffices.
    package var leastByteCount: UInt64? {
        switch self {
        case .tooSmall(let shortage), .requestTooLarge(_, _, let shortage): shortage.leastByteCount
        case .request, .table: nil
        }
    }
}

extension LayoutError: CustomStringConvertible {
    /// The problem and the least sufficient size.
    package var description: String {
        switch self {
        case .tooSmall(let shortage): return shortage.sentence
        case .requestTooLarge(let number, let most, let shortage):
            return "partition \(number) can have at most \(most) bytes (\(ByteText.rounded(most))) on this target; for "
                + "the requested size, the target would need \(Self.text(shortage.leastByteCount))"
        case .request(let sentence), .table(let sentence): return sentence
        }
    }

    fileprivate static func text(_ byteCount: UInt64) -> String {
        "\(byteCount) bytes (\(ByteText.rounded(byteCount)))"
    }
}

extension LayoutError.Shortage {
    /// Further partitions are only counted.
    private static let listedCount = 16

    fileprivate var sentence: String {
        var text =
            "the target is too small: it has \(LayoutError.text(targetByteCount)), and at least "
            + "\(LayoutError.text(leastByteCount)) are needed"
        var details = parts.prefix(Self.listedCount).map(\.sentence)
        if parts.count > Self.listedCount { details.append("and \(parts.count - Self.listedCount) more partitions") }
        if let least = leastWithShrinking {
            details.append("with the layouts grow and proportional, \(LayoutError.text(least)) would do")
        }
        if !details.isEmpty { text += "; " + details.joined(separator: "; ") }
        return text
    }
}
