// SPDX-License-Identifier: GPL-3.0-or-later

/// The contents that could not be read intact, by place, with the error.
struct DamagedContents {
    var damaged: [IndexEntry: String] = [:]
    /// Contents that the medium or the system failed to return: whether they are damaged is unknown.
    var unread: [IndexEntry: String] = [:]

    mutating func add(_ entry: IndexEntry, _ what: String, isUnread: Bool) {
        if isUnread { unread[entry] = what } else { damaged[entry] = what }
    }
}
