// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FoundationEssentials
import JobModel

extension RecoverySettings {
    /// Upper bound on a settings file, in bytes.
    static let jsonLimit = 1 << 16

    /// The settings in a `reforge.json`: one object with the command line's keys without `reforge.` and `repeat`, with
    /// text values, and booleans or texts for flags.
    /// - Parameter name: the name of the file in messages.
    /// - Throws: status 64, naming the unknown, wrong or missing setting.
    package static func parse(json bytes: [UInt8], name: String = "reforge.json") throws(JobFailure)
        -> RecoverySettings
    {
        guard bytes.count < jsonLimit else {
            throw JobFailure(.usage, "\(name) has more than \(jsonLimit) bytes")
        }
        let object: [String: Scalar]
        do {
            object = try JSONDecoder().decode([String: Scalar].self, from: Data(bytes))
        } catch {
            throw JobFailure(
                .usage, "\(name) is not one JSON object of texts: \(Self.sentence(error).printable)")
        }
        return try SettingValues(object.mapValues(\.text), namedWith: "", of: name).settings()
    }

    private struct Scalar: Decodable {
        let text: String

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                text = flag ? "yes" : "no"
            } else {
                text = try container.decode(String.self)
            }
        }
    }

    private static func sentence(_ error: any Error) -> String {
        switch error as? DecodingError {
        case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context):
            let key = context.codingPath.last?.stringValue
            return key.map { "the value of \"\($0)\" is not a text" } ?? "it is not an object"
        default: return "it could not be read as JSON"
        }
    }
}

/// The output of `reforge inspect IMAGE --json` used by the session.
struct InspectedImage: Decodable {
    /// The image id in hexadecimal digits.
    var imageID: String?
    /// How the captured disk starts.
    var boot: BootSurvey?
    var table: Table?
    var volumes: [Volume]?

    struct Table: Decodable { var kind: PartitionTable.Kind }
    struct Volume: Decodable { var attributes: UInt64? }

    /// Whether the captured disk starts by BIOS.
    var startsByBIOS: Bool {
        boot?.startsByBIOS(from: table?.kind ?? .mbr, attributes: volumes?.compactMap(\.attributes) ?? []) == true
    }

    /// From the command's output; `nil` if it is not the expected JSON object.
    init?(json bytes: [UInt8]) {
        guard let decoded = try? JSONDecoder().decode(InspectedImage.self, from: Data(bytes)) else { return nil }
        self = decoded
    }
}
