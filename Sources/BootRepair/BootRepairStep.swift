// SPDX-License-Identifier: GPL-3.0-or-later

/// One thing that boot repair changes: a verb, and how people and programs see it.
package struct BootRepairStep: Encodable, Equatable, Sendable, CustomStringConvertible {
    /// The name of the row of `BootLoaders.table` that planned it; `nil` where no loader is behind it.
    package var loader: String?
    package var verb: BootVerb
    /// A line for a person.
    package var description: String
    /// What `--json` shows of it; the verb where there is none.
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

    /// The record is not compared: it shows the same as the rest.
    package static func == (one: BootRepairStep, other: BootRepairStep) -> Bool {
        one.loader == other.loader && one.verb == other.verb && one.description == other.description
    }
}

/// What `reforge boot-repair --json` shows of a step, where that is older than the verbs.
package protocol StepRecord: Encodable, Equatable, Sendable, CustomStringConvertible {}
