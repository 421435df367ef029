// SPDX-License-Identifier: GPL-3.0-or-later

/// One change of boot repair: a verb, its description and its JSON record.
package struct BootRepairStep: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// The name of the row of `BootLoaders.table` that planned it; `nil` if no loader planned it.
    package var loader: String?
    package var verb: BootVerb
    /// A line for the user.
    package var description: String
    /// The JSON of `--json`; the verb if `nil`.
    package var record: (any StepRecord)?

    package init(_ description: String, _ verb: BootVerb, by loader: String? = nil) {
        self.description = description
        self.verb = verb
        self.loader = loader
    }

    package init(_ record: some StepRecord, _ verb: BootVerb, by loader: String? = nil) {
        self.init(record.description, verb, by: loader)
        self.record = record
    }

    package func encode(to encoder: any Encoder) throws {
        if let record { try record.encode(to: encoder) } else { try verb.encode(to: encoder) }
    }

    /// The record is not compared: it repeats the other members.
    package static func == (one: BootRepairStep, other: BootRepairStep) -> Bool {
        one.loader == other.loader && one.verb == other.verb && one.description == other.description
    }
}

/// The `reforge boot-repair --json` form of a step that predates the verbs.
package protocol StepRecord: Encodable, Equatable, Sendable, CustomStringConvertible {}
