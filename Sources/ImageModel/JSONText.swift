// SPDX-License-Identifier: GPL-3.0-or-later
import FoundationEssentials

/// JSON as Reforge writes it: sorted keys, so that equal values give equal bytes.
package enum JSONText {
    /// The bytes of a value.
    /// - Parameter pretty: with line breaks, for human readers.
    package static func encode(_ value: some Encodable, pretty: Bool = false) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting =
            pretty ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    /// A value from bytes.
    package static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws -> Value {
        try JSONDecoder().decode(type, from: Data(bytes))
    }
}
