// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import WindowsFiles

/// The Windows-related data of a disk.
package struct WindowsFinding: LoaderFinding {
    /// A boot configuration store.
    package struct Store: Codable, Equatable, Sendable {
        /// The number of the partition that holds it.
        package var partition: Int
        /// Its path with backslashes.
        package var path: String
        /// Why it cannot be used, as a sentence part.
        package var problem: String?
        /// The beginning of its file on the disk: unchanged as long as the store is.
        package var stamp: [PlacedBytes] = []
        /// The elements that name partitions.
        package var elements: [Element] = []
        /// The loader that starts without a choice.
        package var defaultObject: GUID?

        package init(partition: Int, path: String) {
            self.partition = partition
            self.path = path
        }

        /// Whether UEFI firmware starts from it.
        package var isForUEFI: Bool { path.lowercased().hasPrefix("\\efi\\") }
    }

    /// A device element of a store.
    package struct Element: Codable, Equatable, Sendable {
        package var object: GUID
        /// The type of its object.
        package var objectType: UInt32
        package var type: UInt32
        /// The partition that it names.
        package var names: BCDPartition
        /// Its bytes on the disk.
        package var data: [PlacedBytes]
        /// A file that must be on that partition; `nil` if none is known.
        package var file: String?
        /// The partitions of this disk that hold that file; `nil` if that is not known.
        package var holders: [Int]?

        package init(
            object: GUID, objectType: UInt32, type: UInt32, names: BCDPartition, data: [PlacedBytes],
            file: String? = nil, holders: [Int]? = nil
        ) {
            self.object = object
            self.objectType = objectType
            self.type = type
            self.names = names
            self.data = data
            self.file = file
            self.holders = holders
        }
    }

    /// An installed Windows.
    package struct System: Codable, Equatable, Sendable {
        /// The number of its partition.
        package var partition: Int
        /// Its folder with backslashes: `\Windows`.
        package var root: String
        /// Why nothing of it can be changed, as a sentence part.
        package var problem: String?
        /// The beginning of its SYSTEM hive on the disk: unchanged as long as the hive is.
        package var stamp: [PlacedBytes] = []
        /// The known storage drivers in the control sets that it may start with.
        package var drivers: [Driver] = []

        package init(partition: Int, root: String) {
            self.partition = partition
            self.root = root
        }
    }

    /// An NTFS that may hold a Windows, and cannot be read.
    package struct Unread: Codable, Equatable, Sendable {
        /// The number of its partition.
        package var partition: Int
        /// As a sentence part.
        package var reason: String

        package init(partition: Int, reason: String) {
            self.partition = partition
            self.reason = reason
        }
    }

    /// A storage driver of an installed Windows.
    package struct Driver: Codable, Equatable, Sendable {
        package var name: String
        /// The number of the control set.
        package var controlSet: UInt32
        /// Whether it starts with the system.
        package var startsAtBoot: Bool
        /// Its file, on the system's partition.
        package var path: String
        package var hasFile: Bool
        /// The numbers to set to 0 so that it starts with the system, on the disk; `nil` if that is not possible.
        package var words: [Word]?

        package init(
            name: String, controlSet: UInt32, startsAtBoot: Bool, path: String, hasFile: Bool, words: [Word]?
        ) {
            self.name = name
            self.controlSet = controlSet
            self.startsAtBoot = startsAtBoot
            self.path = path
            self.hasFile = hasFile
            self.words = words
        }
    }

    /// A number of 32 bits in a hive.
    package struct Word: Codable, Equatable, Sendable {
        package var value: UInt32
        /// Its bytes on the disk.
        package var data: [PlacedBytes]

        package init(value: UInt32, data: [PlacedBytes]) {
            self.value = value
            self.data = data
        }
    }

    package var stores: [Store]
    package var systems: [System]
    package var unread: [Unread]

    package init(stores: [Store] = [], systems: [System] = [], unread: [Unread] = []) {
        self.stores = stores
        self.systems = systems
        self.unread = unread
    }
}
