// SPDX-License-Identifier: GPL-3.0-or-later
// FoundationEssentials: for JSONEncoder and JSONDecoder, which the executable contains in any case.
import FoundationEssentials

/// JSON of records and reports, read strictly: they come from other machines, or from a virtual one that has read
/// hostile disks.
enum DoctorJSON {
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(value))
    }

    static func decode<Value: Decodable>(
        _ type: Value.Type, _ bytes: [UInt8], limit: Int
    ) throws(DoctorError) -> Value {
        guard bytes.count <= limit else { throw .tooLong(byteCount: bytes.count, limit: limit) }
        do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as DoctorError {
            throw error
        } catch let error as DecodingError { throw .malformed(sentence(error)) } catch {
            throw .malformed("it is no JSON")
        }
    }

    private static func sentence(_ error: DecodingError) -> String {
        func place(_ path: [any CodingKey], _ last: String? = nil) -> String {
            let names = path.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue } + (last.map { [$0] } ?? [])
            return DoctorText.shown(names.isEmpty ? "it" : names.joined(separator: "."))
        }
        switch error {
        case .keyNotFound(let key, let context): return "\(place(context.codingPath, key.stringValue)) is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "\(place(context.codingPath)) has the wrong type"
        case .dataCorrupted(let context):
            let path = context.codingPath
            return path.isEmpty
                ? "it is no valid JSON" : "\(place(path)): \(DoctorText.shown(context.debugDescription))"
        @unknown default: return "it is no JSON of this kind"
        }
    }
}
