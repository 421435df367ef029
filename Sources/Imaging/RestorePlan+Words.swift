// SPDX-License-Identifier: GPL-3.0-or-later

extension RestorePlan.Item {
    /// The actions, for a person.
    package var action: String { actions.map(\.words).joined(separator: ", ") }
}

extension RestorePlan.Action {
    /// These words are also in the JSON of a plan, and so in the digest in a journal: other words would make another
    /// plan.
    fileprivate var words: String {
        switch self {
        case .restore: "restore"
        case .restoreInto(let partition): "restore into partition \(partition)"
        case .move: "move"
        case .moveUnused: "move (nothing in use)"
        case .leaveUnused: "nothing in use"
        case .remake: "make anew"
        case .shrink: "shrink"
        case .grow: "grow"
        case .renewLog: "new log"
        case .clearUnused: "clear what is unused"
        case .make: "make"
        }
    }
}
