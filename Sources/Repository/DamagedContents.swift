// SPDX-License-Identifier: GPL-3.0-or-later

/// The contents that could not be read whole, by where they are, with what is wrong.
struct DamagedContents {
    /// Those that are damaged.
    var damaged: [IndexEntry: String] = [:]
    /// Those that the medium or the system did not give now: it is unknown whether they are damaged.
    var unread: [IndexEntry: String] = [:]

    mutating func add(_ entry: IndexEntry, _ what: String, isUnread: Bool) {
        if isUnread { unread[entry] = what } else { damaged[entry] = what }
    }
}
