// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A change of the firmware's boot entries. Numbers have four hexadecimal digits, paths have backslashes.
package enum NVRAMChange: Codable, Equatable, Sendable {
    /// A new entry, first in the order. `isNeeded`: the machine does not start this disk without it.
    case add(label: String, partition: Int, partitionGUID: GUID, path: String, isNeeded: Bool)
    /// An existing entry becomes the first in the order.
    case putFirst(number: String, label: String)
    /// An entry is removed.
    case remove(number: String, label: String)
}
