// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// A boot configuration store (`BCD`): what the Windows Boot Manager starts, and from which partitions.
package struct BCDStore: Sendable {
    /// More than any store has, in bytes.
    package static let largestByteCount = 4 << 20
    /// More than any store has: bounds objects that share their elements.
    private static let largestElementCount = 1 << 14
    /// More subkeys than an object has, and more values than an element has.
    private static let largestRecord: UInt32 = 16

    /// One element of an object.
    package struct Element: Equatable, Sendable {
        /// The class, the format and the number, as in the key's name: `0x11000001`.
        package let type: UInt32
        /// The registry type of its value.
        package let valueType: UInt32
        package let data: [UInt8]
        /// The places of its data in the store's file, in bytes.
        package let ranges: [Range<Int>]

        /// Whether its format is that of a device: bits 24 to 27 of the type (BcdElementDataType of wmi's BCD classes).
        package var isDevice: Bool { type >> 24 & 0xF == 1 && valueType == HiveValue.Kind.binary.rawValue }
        /// Its text, if its format is that of a string.
        package var text: String? {
            guard type >> 24 & 0xF == 2, valueType == HiveValue.Kind.text.rawValue else { return nil }
            return String(RegistryHive.text(data).prefix { $0 != "\0" })
        }
    }

    /// A boot application, or settings that others inherit.
    package struct Object: Equatable, Sendable {
        package let identifier: GUID
        /// `Description\Type`: `0x10100002` is the boot manager, `0x10200003` a loader of Windows.
        package let type: UInt32
        package let elements: [Element]

        /// The text of an element; `nil` without one.
        package func text(_ type: UInt32) -> String? { elements.first { $0.type == type }?.text }
    }

    /// In the order of the store.
    package let objects: [Object]

    /// Parses a store. Objects and elements with other names than GUIDs and eight digits are omitted.
    package init(_ hive: RegistryHive) throws(WindowsFileError) {
        guard hive.bytes.count <= Self.largestByteCount else { throw .tooLarge(byteCount: hive.bytes.count) }
        guard let list = try hive.key("Objects") else { throw .damaged("it has no objects") }
        var objects: [Object] = []
        var room = Room(byteCount: hive.bytes.count)
        try room.take(list.subkeyCount)
        for key in try hive.subkeys(of: list) {
            guard key.name.hasPrefix("{"), key.name.hasSuffix("}"), let guid = GUID(key.name.dropFirst().dropLast())
            else { continue }
            guard key.subkeyCount <= Self.largestRecord else { throw .damaged("an object has too many subkeys") }
            let elements = try Self.elements(of: key, hive, &room)
            let description = try hive.subkey(of: key, named: "Description")
            let type = try description.flatMap { (key) throws(WindowsFileError) in
                try Self.value(of: key, named: "Type", hive)
            }
            objects.append(
                Object(identifier: guid, type: type.flatMap { hive.word($0)?.value } ?? 0, elements: elements))
        }
        self.objects = objects
    }

    /// What may still be read: keys may share lists, and values their data, so that a small file says much.
    private struct Room {
        private var keyCount = UInt32(BCDStore.largestElementCount)
        private var byteCount: Int

        init(byteCount: Int) { self.byteCount = byteCount }

        mutating func take(_ keys: UInt32) throws(WindowsFileError) {
            guard keys <= keyCount else { throw .damaged("it has more elements than any store") }
            keyCount -= keys
        }

        mutating func take(_ value: HiveValue) throws(WindowsFileError) {
            for range in value.ranges {
                guard range.count <= byteCount else { throw .damaged("its elements are longer than the store") }
                byteCount -= range.count
            }
        }
    }

    private static func value(
        of key: HiveKey, named name: String, _ hive: RegistryHive
    ) throws(WindowsFileError) -> HiveValue? {
        guard key.valueCount <= largestRecord else { throw .damaged("an element has too many values") }
        return try hive.value(of: key, named: name)
    }

    private static func elements(
        of object: HiveKey, _ hive: RegistryHive, _ room: inout Room
    ) throws(WindowsFileError) -> [Element] {
        guard let list = try hive.subkey(of: object, named: "Elements") else { return [] }
        try room.take(list.subkeyCount)
        var elements: [Element] = []
        for key in try hive.subkeys(of: list) {
            guard key.name.utf8.count == 8, let type = UInt32(key.name, radix: 16),
                let value = try Self.value(of: key, named: "Element", hive)
            else { continue }
            try room.take(value)
            elements.append(
                Element(type: type, valueType: value.type, data: hive.data(of: value), ranges: value.ranges))
        }
        return elements
    }

    /// The boot manager's object (`{bootmgr}`).
    package static let bootManager = "9dea862c-5cdd-4e70-acc1-f32b344d4795"
    /// The relevant types of elements (BcdLibraryElementTypes, BcdOSLoaderElementTypes and others of the BCD reference).
    package enum ElementType {
        /// The device of an application's file, and its path.
        package static let (device, path) = (0x1100_0001 as UInt32, 0x1200_0002 as UInt32)
        /// The device of a system, and its folder: `\Windows`.
        package static let (systemDevice, systemRoot) = (0x2100_0001 as UInt32, 0x2200_0002 as UInt32)
        /// The device of a RAM disk's settings file, and its path.
        package static let (ramDiskDevice, ramDiskPath) = (0x3100_0003 as UInt32, 0x3200_0004 as UInt32)
        /// The object that the boot manager starts.
        package static let defaultObject: UInt32 = 0x2300_0003
    }
    /// The relevant types of objects.
    package enum ObjectType {
        package static let bootManager: UInt32 = 0x1010_0002
        package static let loader: UInt32 = 0x1020_0003
        package static let resume: UInt32 = 0x1020_0004
        package static let memoryTest: UInt32 = 0x1020_0005
    }
}
