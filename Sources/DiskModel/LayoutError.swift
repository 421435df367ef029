// SPDX-License-Identifier: GPL-3.0-or-later

/// Why a layout cannot be made.
package enum LayoutError: Error, Equatable, Sendable {
    /// The target has too little room.
    case tooSmall(Shortage)
    /// A partition was wished larger than what the others leave for it.
    case wishTooLarge(number: Int, mostByteCount: UInt64, shortage: Shortage)
    /// A wish that no target could meet; one sentence.
    case wish(String)
    /// The table cannot say what would be needed, or is not one that can be planned with; one sentence.
    case table(String)

    /// How much room is missing.
    package struct Shortage: Equatable, Sendable {
        /// The least size of a target that would do, in bytes.
        package var leastByteCount: UInt64
        /// The size of the target in bytes.
        package var targetByteCount: UInt64
        /// The partitions, in the order of the table.
        package var parts: [Part]
        /// The least size of a target, in bytes, for the policies that make partitions smaller, where that is less.
        package var leastWithShrinking: UInt64?

        /// Names the sizes.
        package init(
            leastByteCount: UInt64, targetByteCount: UInt64, parts: [Part] = [], leastWithShrinking: UInt64? = nil
        ) {
            self.leastByteCount = leastByteCount
            self.targetByteCount = targetByteCount
            self.parts = parts
            self.leastWithShrinking = leastWithShrinking
        }
    }

    /// What a partition needs.
    package struct Part: Equatable, Sendable {
        /// Its number.
        package var number: Int
        /// What it holds: `xfs`, or what it is for.
        package var name: String
        /// Its length as captured, in bytes.
        package var byteCount: UInt64
        /// The least length that it can have, in bytes.
        package var leastByteCount: UInt64
        /// Why not less; half a sentence.
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

    /// The least size of a target that would do, in bytes; `nil` where none would.
    package var leastByteCount: UInt64? {
        switch self {
        case .tooSmall(let shortage), .wishTooLarge(_, _, let shortage): shortage.leastByteCount
        case .wish, .table: nil
        }
    }
}

extension LayoutError: CustomStringConvertible {
    /// For a person: what is wrong, and what would do.
    package var description: String {
        switch self {
        case .tooSmall(let shortage): return shortage.sentence
        case .wishTooLarge(let number, let most, let shortage):
            return "partition \(number) can have at most \(most) bytes (\(ByteText.rounded(most))) on this target; as "
                + "wished, the target would need \(Self.text(shortage.leastByteCount))"
        case .wish(let sentence), .table(let sentence): return sentence
        }
    }

    fileprivate static func text(_ byteCount: UInt64) -> String {
        "\(byteCount) bytes (\(ByteText.rounded(byteCount)))"
    }
}

extension LayoutError.Shortage {
    /// More partitions than this are only counted.
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
