// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// Makes a registry hive of one bin: for tests that need one on any machine, and to damage it at known places.
package struct HiveMaker {
    /// A key with its values and subkeys.
    package struct Key {
        package var name: String
        package var values: [(name: String, type: UInt32, data: [UInt8])]
        package var subkeys: [Key]

        package init(
            _ name: String, _ values: [(name: String, type: UInt32, data: [UInt8])] = [], _ subkeys: [Key] = []
        ) {
            self.name = name
            self.values = values
            self.subkeys = subkeys
        }

        /// A number.
        package static func word(_ name: String, _ value: UInt32) -> (name: String, type: UInt32, data: [UInt8]) {
            var data: [UInt8] = []
            data.appendLittleEndian(value)
            return (name, 4, data)
        }

        /// A text.
        package static func text(_ name: String, _ value: String) -> (name: String, type: UInt32, data: [UInt8]) {
            (name, 1, wide(value + "\0"))
        }
    }

    /// UTF-16, little-endian.
    package static func wide(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }

    /// The contents of all cells, without their sizes; the place of each.
    private var cells: [(place: Int, bytes: [UInt8])] = []
    private var end = 32
    private let usesIndexRoot: Bool

    /// - Parameter usesIndexRoot: whether subkeys are listed through an index root.
    package static func make(
        _ root: Key, sequence: UInt32 = 7, minorVersion: UInt32 = 5, usesIndexRoot: Bool = false
    ) -> [UInt8] {
        var maker = HiveMaker(usesIndexRoot: usesIndexRoot)
        let place = maker.add(root, parent: .max)
        return maker.file(root: place, sequence, minorVersion)
    }

    private init(usesIndexRoot: Bool) { self.usesIndexRoot = usesIndexRoot }

    private mutating func add(_ bytes: [UInt8]) -> UInt32 {
        let place = end
        cells.append((place, bytes))
        end += (bytes.count + 4 + 7) / 8 * 8
        return UInt32(place)
    }

    private mutating func add(_ key: Key, parent: UInt32) -> UInt32 {
        var record = [UInt8](repeating: 0, count: 76) + Array(key.name.utf8)
        record.replaceSubrange(0..<2, with: Array("nk".utf8))
        record.setLittleEndian(0x20 as UInt16, at: 2)
        record.setLittleEndian(parent, at: 16)
        for offset in [28, 32, 40, 44, 48] { record.setLittleEndian(UInt32.max, at: offset) }
        record.setLittleEndian(UInt16(key.name.utf8.count), at: 72)
        let place = add(record)
        let index = cells.count - 1
        if !key.values.isEmpty {
            var list: [UInt8] = []
            for value in key.values { list.appendLittleEndian(add(value)) }
            cells[index].bytes.setLittleEndian(UInt32(key.values.count), at: 36)
            cells[index].bytes.setLittleEndian(add(list), at: 40)
        }
        if !key.subkeys.isEmpty {
            var list = Array("lf".utf8)
            list.appendLittleEndian(UInt16(key.subkeys.count))
            // Windows looks names up by bisection.
            for subkey in key.subkeys.sorted(by: { $0.name.uppercased() < $1.name.uppercased() }) {
                list.appendLittleEndian(add(subkey, parent: place))
                list += (Array(subkey.name.utf8) + [0, 0, 0, 0]).prefix(4)
            }
            var top = add(list)
            if usesIndexRoot {
                var roots = Array("ri".utf8)
                roots.appendLittleEndian(1 as UInt16)
                roots.appendLittleEndian(top)
                top = add(roots)
            }
            cells[index].bytes.setLittleEndian(UInt32(key.subkeys.count), at: 20)
            cells[index].bytes.setLittleEndian(top, at: 28)
        }
        return place
    }

    private mutating func add(_ value: (name: String, type: UInt32, data: [UInt8])) -> UInt32 {
        var record = [UInt8](repeating: 0, count: 20) + Array(value.name.utf8)
        record.replaceSubrange(0..<2, with: Array("vk".utf8))
        record.setLittleEndian(UInt16(value.name.utf8.count), at: 2)
        record.setLittleEndian(value.type, at: 12)
        record.setLittleEndian(1 as UInt16, at: 16)
        if value.data.count <= 4 {
            record.setLittleEndian(UInt32(value.data.count) | 1 << 31, at: 4)
            record.replaceSubrange(8..<8 + value.data.count, with: value.data)
            return add(record)
        }
        record.setLittleEndian(UInt32(value.data.count), at: 4)
        if value.data.count > 16344 {
            var list: [UInt8] = []
            for start in stride(from: 0, to: value.data.count, by: 16344) {
                list.appendLittleEndian(add(Array(value.data[start..<min(start + 16344, value.data.count)])))
            }
            var big = Array("db".utf8)
            big.appendLittleEndian(UInt16(list.count / 4))
            big.appendLittleEndian(add(list))
            record.setLittleEndian(add(big), at: 8)
        } else {
            record.setLittleEndian(add(value.data), at: 8)
        }
        return add(record)
    }

    private func file(root: UInt32, _ sequence: UInt32, _ minorVersion: UInt32) -> [UInt8] {
        let byteCount = (end + 4095) / 4096 * 4096
        var bin = [UInt8](repeating: 0, count: byteCount)
        bin.replaceSubrange(0..<4, with: Array("hbin".utf8))
        bin.setLittleEndian(UInt32(byteCount), at: 8)
        for cell in cells {
            bin.setLittleEndian(-Int32((cell.bytes.count + 4 + 7) / 8 * 8), at: cell.place)
            bin.replaceSubrange(cell.place + 4..<cell.place + 4 + cell.bytes.count, with: cell.bytes)
        }
        if end < byteCount { bin.setLittleEndian(Int32(byteCount - end), at: end) }
        var head = [UInt8](repeating: 0, count: 4096)
        head.replaceSubrange(0..<4, with: Array("regf".utf8))
        for (offset, value) in [
            (4, sequence), (8, sequence), (20, 1), (24, minorVersion), (32, 1), (36, root), (40, UInt32(byteCount)),
            (44, 1),
        ] {
            head.setLittleEndian(value, at: offset)
        }
        var hive = head + bin
        Self.correct(&hive)
        return hive
    }

    /// Corrects the checksum.
    package static func correct(_ hive: inout [UInt8]) {
        var sum: UInt32 = 0
        for offset in stride(from: 0, to: 508, by: 4) {
            sum ^= (try? hive.littleEndian(UInt32.self, at: offset)) ?? 0
        }
        hive.setLittleEndian(sum == 0 ? 1 : sum == .max ? .max - 1 : sum, at: 508)
    }
}

/// Stores and hives of Windows, as small as they can be.
package enum WindowsFixture {
    package static let bootManager = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
    package static let loader = "{11111111-2222-3333-4444-555555555555}"
    package static let resume = "{11111111-2222-3333-4444-666666666666}"

    /// A device element of a GPT disk.
    package static func device(partition: GUID, disk: GUID) -> [UInt8] {
        device(partition.mixedEndianBytes, 0, disk.mixedEndianBytes)
    }

    /// A device element of an MBR disk.
    /// - Parameter start: in bytes.
    package static func device(start: UInt64, signature: UInt32) -> [UInt8] {
        var place = [UInt8](repeating: 0, count: 16)
        var disk = place
        place.setLittleEndian(start, at: 0)
        disk.setLittleEndian(signature, at: 0)
        return device(place, 1, disk)
    }

    private static func device(_ place: [UInt8], _ scheme: UInt32, _ disk: [UInt8]) -> [UInt8] {
        var data = [UInt8](repeating: 0, count: 88)
        data.setLittleEndian(6 as UInt32, at: 16)
        data.setLittleEndian(0x48 as UInt32, at: 24)
        data.replaceSubrange(32..<48, with: place)
        data.setLittleEndian(scheme, at: 52)
        data.replaceSubrange(56..<72, with: disk)
        return data
    }

    /// A store with a boot manager, a loader and its resume object.
    /// - Parameter folder: of the boot manager: `\EFI\Microsoft\Boot`.
    package static func store(manager: [UInt8], system: [UInt8], folder: String = "\\EFI\\Microsoft\\Boot") -> [UInt8] {
        func object(
            _ name: String, _ type: UInt32, _ elements: [(String, (name: String, type: UInt32, data: [UInt8]))]
        ) -> HiveMaker.Key {
            HiveMaker.Key(
                name, [],
                [
                    HiveMaker.Key("Description", [HiveMaker.Key.word("Type", type)]),
                    HiveMaker.Key("Elements", [], elements.map { HiveMaker.Key($0.0, [$0.1]) }),
                ])
        }
        func device(_ data: [UInt8]) -> (name: String, type: UInt32, data: [UInt8]) { ("Element", 3, data) }
        func text(_ text: String) -> (name: String, type: UInt32, data: [UInt8]) {
            HiveMaker.Key.text("Element", text)
        }
        return HiveMaker.make(
            HiveMaker.Key(
                "ROOT", [],
                [
                    HiveMaker.Key("Description", [HiveMaker.Key.text("KeyName", "BCD00000000")]),
                    HiveMaker.Key(
                        "Objects", [],
                        [
                            object(
                                bootManager, 0x1010_0002,
                                [
                                    ("11000001", device(manager)), ("12000002", text("\(folder)\\bootmgfw.efi")),
                                    ("23000003", text(loader)),
                                ]),
                            object(
                                loader, 0x1020_0003,
                                [
                                    ("11000001", device(system)),
                                    ("12000002", text("\\Windows\\system32\\winload.efi")),
                                    ("21000001", device(system)), ("22000002", text("\\Windows")),
                                ]),
                            object(
                                resume, 0x1020_0004,
                                [
                                    ("11000001", device(system)),
                                    ("12000002", text("\\Windows\\system32\\winresume.efi")),
                                    ("21000001", device(system)), ("22000002", text("\\hiberfil.sys")),
                                ]),
                        ]),
                ]), minorVersion: 3)
    }

    /// A SYSTEM hive with drivers: `Start`, `StartOverride\0`.
    package static func system(_ drivers: [(name: String, start: UInt32, startOverride: UInt32?)]) -> [UInt8] {
        let services = drivers.map { driver in
            HiveMaker.Key(
                driver.name,
                [
                    HiveMaker.Key.text("Group", "SCSI miniport"), HiveMaker.Key.word("Start", driver.start),
                    HiveMaker.Key.text("ImagePath", "System32\\drivers\\\(driver.name).sys"),
                ], driver.startOverride.map { [HiveMaker.Key("StartOverride", [HiveMaker.Key.word("0", $0)])] } ?? [])
        }
        return HiveMaker.make(
            HiveMaker.Key(
                "ROOT", [],
                [
                    HiveMaker.Key(
                        "Select", [HiveMaker.Key.word("Current", 1), HiveMaker.Key.word("Default", 1)]),
                    HiveMaker.Key("ControlSet001", [], [HiveMaker.Key("Services", [], services)]),
                ]))
    }
}
