// SPDX-License-Identifier: GPL-3.0-or-later

/// The policy for the additional or missing room of a target.
package enum LayoutPolicy: String, Codable, Sendable, CaseIterable {
    /// Sizes as captured: nothing grows and nothing shrinks.
    case keep
    /// The last partition that can grow takes the additional room.
    case grow
    /// All partitions that can grow share the additional room in proportion to their sizes.
    case proportional
}

/// The requested size of one partition.
package enum PartitionWish: Equatable, Sendable, CustomStringConvertible {
    /// Exactly this length in bytes, rounded up to the target's sector.
    case size(UInt64)
    /// Its captured length.
    case keep
    /// All remaining room.
    case rest
    /// Not restored, and omitted from the table.
    case drop

    /// Parses the text after the `=` of `3=40GiB`: a size (`SizeText`), `keep`, `rest` or `drop`.
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
                throw LayoutRequestError("a partition cannot have 0 bytes; drop omits it")
            }
            self = .size(byteCount)
        }
    }

    /// The text form that `init(parsing:)` accepts.
    package var description: String {
        switch self {
        case .size(let byteCount):
            // Without a space; bytes without their unit.
            ByteText.exact(byteCount).hasSuffix("bytes")
                ? "\(byteCount)" : String(ByteText.exact(byteCount).filter { $0 != " " })
        case .keep: "keep"
        case .rest: "rest"
        case .drop: "drop"
        }
    }
}

extension PartitionWish: Codable {
    /// From the text form.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        do { self = try PartitionWish(parsing: try container.decode(String.self)) } catch let error
            as LayoutRequestError
        {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: error.description)
        }
    }

    /// To the text form.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// Why the text of a request is invalid.
package struct LayoutRequestError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A sentence for messages.
    package var description: String

    init(_ description: String) { self.description = description }
}

/// The requested layout: a policy, and requests for single partitions that override it.
package struct LayoutRequest: Codable, Equatable, Sendable {
    /// The policy for partitions without a request.
    package var policy: LayoutPolicy
    /// The requests, by the number of the partition in the captured table.
    package var wishes: [Int: PartitionWish]

    package init(policy: LayoutPolicy = .grow, wishes: [Int: PartitionWish] = [:]) {
        self.policy = policy
        self.wishes = wishes
    }

    /// Parses texts such as `3=40GiB`, `2=keep`, `4=rest`, `5=drop`.
    package init(policy: LayoutPolicy = .grow, parsing texts: [String]) throws(LayoutRequestError) {
        self.init(policy: policy)
        for text in texts { try add(parsing: text) }
    }

    /// Adds a request from a text such as `3=40GiB`. An identical repetition is ignored.
    package mutating func add(parsing text: some StringProtocol) throws(LayoutRequestError) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(parts[0]),
            number > 0
        else {
            throw LayoutRequestError(
                "\"\(text)\" is not a partition's number, = and its size: 3=40GiB, 2=keep, 4=rest, 5=drop")
        }
        let wish = try PartitionWish(parsing: parts[1])
        if let other = wishes[number], other != wish {
            throw LayoutRequestError("partition \(number) cannot be both \(other) and \(wish)")
        }
        wishes[number] = wish
    }
}
