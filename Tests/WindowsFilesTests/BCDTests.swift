// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport
import Testing

@testable import WindowsFiles

struct BCDTests {
    private static let partition = GUID(WindowsFixture.loader.dropFirst().dropLast()) ?? .zero
    private static let disk = GUID("5eed0000-0000-4000-8000-00000000000d") ?? .zero
    private static let gpt = WindowsFixture.device(partition: partition, disk: disk)
    private static let mbr = WindowsFixture.device(start: 105_906_176, signature: 0x1234_ABCD)

    @Test func devicesAreRead() throws {
        #expect(try BCDDevice(Self.gpt) == .partition(.gpt(partition: Self.partition, disk: Self.disk)))
        #expect(try BCDDevice(Self.mbr) == .partition(.mbr(start: 105_906_176, signature: 0x1234_ABCD)))
        var boot = Self.gpt
        boot.setLittleEndian(5 as UInt32, at: 16)
        #expect(try BCDDevice(boot) == .boot)
        for kind in [0, 1, 2, 3, 4, 7, 8, .max] as [UInt32] {
            boot.setLittleEndian(kind, at: 16)
            #expect(try BCDDevice(boot) == .other(kind: kind))
            #expect(throws: ParsingError.self) { try BCDDevice.replacing(.mbr(start: 0, signature: 0), in: boot) }
        }
    }

    /// Bytes that mean something else make it another kind of element, which is left alone.
    @Test func onlyTheKnownLayoutIsRead() {
        for count in 0..<88 { #expect(throws: ParsingError.self) { try BCDDevice(Array(Self.gpt[..<count])) } }
        #expect(throws: ParsingError.self) { try BCDDevice(Self.gpt + [0]) }
        for (offset, data) in [
            (20, Self.gpt), (24, Self.gpt), (28, Self.gpt), (48, Self.gpt), (52, Self.gpt), (72, Self.gpt),
            (87, Self.gpt), (40, Self.mbr), (60, Self.mbr),
        ] {
            var changed = data
            changed[offset] ^= 0x40
            #expect(throws: ParsingError.self, "byte \(offset)") { try BCDDevice(changed) }
        }
    }

    @Test func aPartitionIsReplacedInPlace() throws {
        var options = Self.gpt
        options[3] = 0xAA
        let new = try BCDDevice.replacing(.mbr(start: 1 << 20, signature: 7), in: options)
        #expect(new.count == 88 && new[3] == 0xAA)
        #expect(try BCDDevice(new) == .partition(.mbr(start: 1 << 20, signature: 7)))
        #expect(
            try BCDDevice.replacing(.gpt(partition: Self.partition, disk: Self.disk), in: Self.mbr) == Self.gpt)
        let differing = zip(
            Self.gpt, try BCDDevice.replacing(.gpt(partition: .random(), disk: .random()), in: Self.gpt)
        )
        .enumerated().filter { $0.element.0 != $0.element.1 }.map(\.offset)
        #expect(differing.allSatisfy { (32..<48).contains($0) || (56..<72).contains($0) })
    }

    @Test func aStoreIsRead() throws {
        let bytes = WindowsFixture.store(manager: Self.mbr, system: Self.gpt)
        let store = try BCDStore(RegistryHive(bytes))
        #expect(
            store.objects.map(\.identifier.description).sorted()
                == [WindowsFixture.loader, WindowsFixture.resume, WindowsFixture.bootManager].map {
                    String($0.dropFirst().dropLast())
                }.sorted())
        let loader = try #require(store.objects.first { "{\($0.identifier)}" == WindowsFixture.loader })
        #expect(loader.type == BCDStore.ObjectType.loader)
        #expect(loader.text(BCDStore.ElementType.systemRoot) == "\\Windows")
        let device = try #require(loader.elements.first { $0.type == BCDStore.ElementType.systemDevice })
        #expect(device.isDevice && device.data == Self.gpt && device.ranges.count == 1)
        #expect(Array(bytes[device.ranges[0]]) == Self.gpt)
        #expect(throws: WindowsFileError.damaged("it has no objects")) {
            try BCDStore(RegistryHive(HiveMaker.make(HiveMaker.Key("ROOT"))))
        }
    }

    /// Objects that share their elements cannot make it read without end.
    @Test func sharedElementsAreBounded() throws {
        let elements = HiveMaker.Key(
            "Elements", [],
            (0..<300).map { index in
                let digits = String(index, radix: 16)
                return HiveMaker.Key(String(repeating: "0", count: 8 - digits.count) + digits, [("Element", 3, [1])])
            })
        let objects = (0..<100).map { index in
            HiveMaker.Key("{11111111-2222-3333-4444-0000000000\(index < 10 ? "0" : "")\(index)}", [], [elements])
        }
        let bytes = HiveMaker.make(HiveMaker.Key("ROOT", [], [HiveMaker.Key("Objects", [], objects)]))
        #expect(throws: WindowsFileError.self) { try BCDStore(RegistryHive(bytes)) }
    }

    /// Elements that share their data cannot make it hold more than the file.
    @Test func sharedDataIsBounded() throws {
        let elements = (0..<31).map { index in
            HiveMaker.Key(
                "110000" + (index < 16 ? "0" : "") + String(index, radix: 16),
                [("Element", 3, index == 0 ? [UInt8](repeating: 1, count: 8000) : [1])])
        }
        let object = HiveMaker.Key(WindowsFixture.loader, [], [HiveMaker.Key("Elements", [], elements)])
        var bytes = HiveMaker.make(HiveMaker.Key("ROOT", [], [HiveMaker.Key("Objects", [], [object])]))
        #expect(try BCDStore(RegistryHive(bytes)).objects.first?.elements.count == 31)
        // All keys of elements get the list of values of the first one. "Elements" has eight letters too, and no value.
        var first: UInt32?
        for place in stride(from: 4096 + 32, to: bytes.count - 88, by: 8)
        where bytes[place + 4..<place + 6].elementsEqual("nk".utf8) {
            guard try bytes.littleEndian(UInt32.self, at: place + 40) == 1 else { continue }
            let list = try first ?? bytes.littleEndian(UInt32.self, at: place + 44)
            first = list
            bytes.setLittleEndian(list, at: place + 44)
        }
        #expect(throws: WindowsFileError.damaged("its elements are longer than the store")) {
            try BCDStore(RegistryHive(bytes))
        }
    }

    /// Lists that many keys could share are short.
    @Test func recordsAreBounded() throws {
        func error(_ object: HiveMaker.Key) -> WindowsFileError? {
            let bytes = HiveMaker.make(HiveMaker.Key("ROOT", [], [HiveMaker.Key("Objects", [], [object])]))
            do throws(WindowsFileError) {
                _ = try BCDStore(RegistryHive(bytes))
                return nil
            } catch { return error }
        }
        let values = (0..<17).map { HiveMaker.Key.word("value \($0)", 1) }
        #expect(
            error(HiveMaker.Key(WindowsFixture.loader, [], [HiveMaker.Key("Description", values)]))
                == .damaged("an element has too many values"))
        #expect(
            error(HiveMaker.Key(WindowsFixture.loader, [], (0..<17).map { HiveMaker.Key("key \($0)") }))
                == .damaged("an object has too many subkeys"))
        #expect(
            error(HiveMaker.Key(String(repeating: "x", count: 511)))
                == .damaged("the name of a key is too long"))
    }
}
