// SPDX-License-Identifier: GPL-3.0-or-later

/// How a layout follows the size of the target.
package enum LayoutPolicy: String, Codable, Sendable, CaseIterable {
    /// Sizes as captured: nothing grows and nothing shrinks.
    case keep
    /// The last partition that can grow takes what the target adds.
    case grow
    /// All partitions that can grow share what the target adds, each by its size.
    case proportional
}

/// What a person wants of one partition.
package enum PartitionWish: Equatable, Sendable, CustomStringConvertible {
    /// Exactly this length in bytes, rounded up to the target's sector.
    case size(UInt64)
    /// The length that it was captured with.
    case keep
    /// All that is left.
    case rest
    /// Not restored, and not in the table.
    case drop

    /// From what follows the `=` of `3=40GiB`: a size (`SizeText`), `keep`, `rest` or `drop`.
    package init(parsing text: some StringProtocol) throws(LayoutRequestError) {
        switch text {
        case "keep": self = .keep
        case "rest": self = .rest
        case "drop": self = .drop
        default:
            guard let byteCount = SizeText.parse(text) else {
                throw LayoutRequestError("\"\(text)\" is neither a size such as 40GiB nor keep, rest or drop")
            }
            guard byteCount > 0 else {
                throw LayoutRequestError("a partition cannot have 0 bytes; drop leaves it away")
            }
            self = .size(byteCount)
        }
    }

    /// As it is typed.
    package var description: String {
        switch self {
        case .size(let byteCount):
            // Typed without a space, and bytes without their unit.
            ByteText.exact(byteCount).hasSuffix("bytes")
                ? "\(byteCount)" : String(ByteText.exact(byteCount).filter { $0 != " " })
        case .keep: "keep"
        case .rest: "rest"
        case .drop: "drop"
        }
    }
}

extension PartitionWish: Codable {
    /// From the text that a person would type.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        do { self = try PartitionWish(parsing: try container.decode(String.self)) } catch let error
            as LayoutRequestError
        {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: error.description)
        }
    }

    /// As the text that a person would type.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// What is wrong with the text of a wish.
package struct LayoutRequestError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A sentence for a person.
    package var description: String

    init(_ description: String) { self.description = description }
}

/// What a person wants of a layout: a policy, and wishes for single partitions that go before it.
package struct LayoutRequest: Codable, Equatable, Sendable {
    /// How partitions without a wish follow the size of the target.
    package var policy: LayoutPolicy
    /// The wishes, by the number of the partition in the captured table.
    package var wishes: [Int: PartitionWish]

    /// A policy and wishes.
    package init(policy: LayoutPolicy = .grow, wishes: [Int: PartitionWish] = [:]) {
        self.policy = policy
        self.wishes = wishes
    }

    /// From texts such as `3=40GiB`, `2=keep`, `4=rest`, `5=drop`.
    package init(policy: LayoutPolicy = .grow, parsing texts: [String]) throws(LayoutRequestError) {
        self.init(policy: policy)
        for text in texts { try add(parsing: text) }
    }

    /// Adds a wish from a text such as `3=40GiB`. The same wish twice is one.
    package mutating func add(parsing text: some StringProtocol) throws(LayoutRequestError) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(parts[0]),
            number > 0
        else {
            throw LayoutRequestError(
                "\"\(text)\" is not a partition's number, = and what it should have: 3=40GiB, 2=keep, 4=rest, 5=drop")
        }
        let wish = try PartitionWish(parsing: parts[1])
        if let other = wishes[number], other != wish {
            throw LayoutRequestError("partition \(number) cannot be both \(other) and \(wish)")
        }
        wishes[number] = wish
    }
}
