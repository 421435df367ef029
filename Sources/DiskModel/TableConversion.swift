// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The change of a partition table that a start by the other firmware needs: a GPT in place of an MBR, and one more
/// partition for the loader.
package struct TableConversion: Codable, Equatable, Sendable {
    /// The firmware that the disk is made to start by.
    package enum Goal: String, Codable, Sendable {
        case bios, uefi
    }

    package var goal: Goal
    /// The disk GUID of the GPT that replaces an MBR; `nil` where the captured GPT stays.
    package var diskGUID: GUID?
    /// The partitions of the MBR as entries of the GPT, by number; empty where the captured GPT stays.
    ///
    /// Each keeps its number, also a logical one: a GPT may have unused entries between used ones, so that every
    /// reference by number (`/dev/sda5`) stays right.
    package var entries: [Int: Entry]
    /// The extended partitions of the MBR, in bytes of the captured disk.
    package var extended: [ByteRange]
    /// The partition for the loader, at its place on the target; `nil` where the disk has one.
    package var added: Partition?

    /// The identity of a partition that had none in an MBR.
    package struct Entry: Codable, Equatable, Sendable {
        package var typeGUID: GUID
        package var guid: GUID

        package init(typeGUID: GUID, guid: GUID) {
            self.typeGUID = typeGUID
            self.guid = guid
        }
    }

    package init(
        goal: Goal, diskGUID: GUID? = nil, entries: [Int: Entry] = [:], extended: [ByteRange] = [],
        added: Partition? = nil
    ) {
        self.extended = extended
        self.goal = goal
        self.diskGUID = diskGUID
        self.entries = entries
        self.added = added
    }

    /// Whether a GPT replaces an MBR.
    package var replacesMBR: Bool { diskGUID != nil }
}
