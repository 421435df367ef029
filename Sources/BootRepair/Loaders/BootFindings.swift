// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The result of a loader's survey.
package protocol LoaderFinding: Codable, Equatable, Sendable {}

extension LoaderFinding {
    fileprivate func isSame(as other: any LoaderFinding) -> Bool { (other as? Self) == self }
}

/// The findings of the rows of `BootLoaders.table`, by the rows' names.
package struct BootFindings: Codable, Equatable, Sendable {
    private var all: [String: any LoaderFinding] = [:]

    fileprivate struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { return nil }
    }

    package init() {}

    /// The finding of a row; `nil` if it has none.
    package subscript<Loader: BootLoader>(_ loader: Loader) -> Loader.Finding? {
        get { all[loader.name] as? Loader.Finding }
        set {
            if let newValue { all[loader.name] = newValue } else { all.removeValue(forKey: loader.name) }
        }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Name.self)
        for loader in BootLoaders.table.rows where container.contains(Name(stringValue: loader.name)) {
            all[loader.name] = try loader.finding(in: container)
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Name.self)
        for (name, finding) in all { try container.encode(finding, forKey: Name(stringValue: name)) }
    }

    package static func == (one: BootFindings, other: BootFindings) -> Bool {
        one.all.count == other.all.count
            && one.all.allSatisfy { name, finding in other.all[name].map { finding.isSame(as: $0) } ?? false }
    }
}

extension BootLoader {
    fileprivate func finding(in container: KeyedDecodingContainer<BootFindings.Name>) throws -> any LoaderFinding {
        try container.decode(Finding.self, forKey: BootFindings.Name(stringValue: name))
    }

    /// Surveys, and records the finding.
    func survey(_ scene: BootScene, into findings: inout BootFindings) throws(BootRepairError) {
        findings[self] = try survey(scene)
    }
}
