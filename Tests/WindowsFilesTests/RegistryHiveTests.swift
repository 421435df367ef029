// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import TestSupport
import Testing

@testable import WindowsFiles

struct RegistryHiveTests {
    private static let bytes = WindowsFixture.system([("storahci", 0, nil), ("stornvme", 3, 3), ("viostor", 4, nil)])

    /// The error for changed bytes, whose checksum is corrected.
    private static func error(_ change: (inout [UInt8]) -> Void) -> WindowsFileError? {
        var changed = bytes
        change(&changed)
        HiveMaker.correct(&changed)
        do throws(WindowsFileError) {
            let hive = try RegistryHive(changed)
            _ = try ControlSets(hive).drivers(["storahci", "stornvme", "viostor"], systemRoot: "\\Windows")
            return nil
        } catch { return error }
    }

    @Test func driversAreFound() throws {
        let sets = try ControlSets(RegistryHive(Self.bytes))
        #expect(sets.numbers == [1])
        let drivers = try sets.drivers(["storahci", "stornvme", "viostor", "pvscsi"], systemRoot: "\\Windows")
        #expect(drivers.map(\.name) == ["storahci", "stornvme", "viostor"])
        #expect(drivers.map(\.startsAtBoot) == [true, false, false])
        #expect(drivers.map { $0.wordsToClear?.count } == [0, 2, 1])
        #expect(drivers[0].path == "\\Windows\\System32\\drivers\\storahci.sys")
        for driver in drivers {
            for word in [driver.start, driver.startOverride].compactMap({ $0 }) {
                #expect(try Self.bytes.littleEndian(UInt32.self, at: word.offset) == word.value)
            }
        }
    }

    @Test func aDirtyHiveIsRefused() {
        #expect(Self.error { $0.setLittleEndian(8 as UInt32, at: 4) } == .dirty("its sequence numbers 8 and 7 differ"))
        var wrong = Self.bytes
        wrong[508] ^= 1
        #expect(throws: WindowsFileError.dirty("the checksum of its header is wrong")) { try RegistryHive(wrong) }
    }

    @Test func newerLogsAreSeen() throws {
        let hive = try RegistryHive(Self.bytes)
        func log(_ numbers: [UInt32], kind: String = "HvLE") -> [UInt8] {
            var log = Array(Self.bytes[..<512])
            for number in numbers {
                var entry = Array(kind.utf8) + [UInt8](repeating: 0, count: 1020)
                entry.setLittleEndian(1024 as UInt32, at: 4)
                entry.setLittleEndian(number, at: 12)
                log += entry
            }
            return log
        }
        func problem(_ log: [UInt8]) -> String? { HiveLog.problem(log, named: "SYSTEM.LOG1", of: hive) }
        #expect(problem([]) == nil)
        #expect(problem([UInt8](repeating: 0, count: 4096)) == nil)
        #expect(problem(log([5, 6, 7])) == nil)
        #expect(problem(log([6, 7, 8])) == "SYSTEM.LOG1 holds the newer entry 8")
        #expect(problem(log([0])) == nil)
        var old = log([0], kind: "DIRT")
        #expect(problem(old) == nil)
        old.setLittleEndian(8 as UInt32, at: 4)
        #expect(problem(old) == "SYSTEM.LOG1 is newer than it")
        // An entry that is cut off or has no valid length ends the walk, after it was judged itself.
        #expect(problem(Array(log([6, 8])[..<1600])) == "SYSTEM.LOG1 holds the newer entry 8")
        var short = log([7, 9])
        short.setLittleEndian(0 as UInt32, at: 516)
        #expect(problem(short) == nil)
    }

    @Test func theHeaderIsChecked() {
        #expect(Self.error { $0[0] = 0 } == .notAHive)
        #expect(Self.error { $0 = [] + $0[..<4000] } == .notAHive)
        for (offset, value) in [(20, 2), (24, 2), (24, 6), (28, 1), (32, 0)] as [(Int, UInt32)] {
            #expect(
                Self.error { $0.setLittleEndian(value, at: offset) } == .damaged("its version or type is not known"))
        }
        for value in [0, 100, 1 << 30, 0xFFFF_F000] as [UInt32] {
            #expect(Self.error { $0.setLittleEndian(value, at: 40) } == .damaged("its bins do not lie in the file"))
        }
        #expect(Self.error { $0.removeLast() } == .damaged("its bins do not lie in the file"))
        for value in [0, 33, 36, .max, 0x7FFF_FFF8] as [UInt32] {
            guard case .damaged? = Self.error({ $0.setLittleEndian(value, at: 36) }) else {
                Issue.record("root at \(value)")
                continue
            }
        }
    }

    @Test func binsAndCellsAreChecked() {
        #expect(Self.error { $0[4096] = 0 } == .damaged("the signature of a bin is not valid"))
        for (offset, value) in [(4, 4096), (8, 0), (8, 4095), (8, 1 << 20)] as [(Int, UInt32)] {
            #expect(
                Self.error { $0.setLittleEndian(value, at: 4096 + offset) }
                    == .damaged("the place or the size of a bin"))
        }
        for size in [0, -4, -9, 5, 1 << 20, .min, -1 << 20] as [Int32] {
            #expect(Self.error { $0.setLittleEndian(size, at: 4096 + 32) } == .damaged("the size of a cell"))
        }
        // A key in free space.
        var free = Self.bytes
        let size = (try? free.littleEndian(Int32.self, at: 4128)) ?? 0
        free.setLittleEndian(-size, at: 4128)
        #expect(throws: WindowsFileError.damaged("a reference leads to no cell")) { try RegistryHive(free).root }
    }

    @Test func longDataIsReadInSegments() throws {
        let long = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        for version in [3, 5] as [UInt32] {
            let hive = try RegistryHive(
                HiveMaker.make(
                    HiveMaker.Key("ROOT", [("long", 3, long), ("short", 3, [1, 2, 3])]), minorVersion: version))
            let root = try hive.root
            if version == 5 {
                #expect(try hive.value(of: root, named: "LONG").map { hive.data(of: $0) } == long)
            } else {
                // Before version 1.4 there are no segments: the record is too short.
                #expect(throws: WindowsFileError.self) { try hive.values(of: root) }
            }
        }
    }

    @Test func anIndexRootIsFollowed() throws {
        let keys = (0..<50).map { HiveMaker.Key("key \($0)") }
        let hive = try RegistryHive(HiveMaker.make(HiveMaker.Key("ROOT", [], keys), usesIndexRoot: true))
        #expect(try Set(hive.subkeys(of: hive.root).map(\.name)) == Set(keys.map(\.name)))
        #expect(try hive.key("KEY 7")?.name == "key 7")
        #expect(try hive.key("key 50") == nil)
    }

    @Test func doubtfulNamesAreRefused() throws {
        let twice = HiveMaker.make(HiveMaker.Key("ROOT", [], [HiveMaker.Key("a"), HiveMaker.Key("A")]))
        #expect(throws: WindowsFileError.damaged("two keys a in one place")) { try RegistryHive(twice).key("a") }
        let values = HiveMaker.make(HiveMaker.Key("ROOT", [HiveMaker.Key.word("x", 1), HiveMaker.Key.word("X", 2)]))
        let hive = try RegistryHive(values)
        #expect(throws: WindowsFileError.damaged("two values x in one key")) {
            try hive.value(of: hive.root, named: "x")
        }
    }

    /// No single changed byte traps, and none makes a driver's number lie elsewhere than in its record.
    @Test func anyByteMayBeWrong() throws {
        var random = SeededGenerator(seed: Sample.seed())
        for round in 0..<(Sample.isFull ? 20_000 : 2000) {
            var changed = Self.bytes
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                changed[Int.random(in: 0..<changed.count - 2000, using: &random)] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            HiveMaker.correct(&changed)
            guard let hive = try? RegistryHive(changed),
                let drivers = try? ControlSets(hive).drivers(["stornvme"], systemRoot: "\\Windows")
            else { continue }
            for word in drivers.flatMap({ $0.wordsToClear ?? [] }) {
                #expect(word.offset >= 4096 && word.offset + 4 <= changed.count, "round \(round)")
            }
        }
    }

    @Test func pathsOfDrivers() {
        func path(_ image: String?) -> String { ControlSets.path(image, name: "x", systemRoot: "\\Windows") }
        #expect(path(nil) == "\\Windows\\System32\\drivers\\x.sys")
        #expect(path("") == "\\Windows\\System32\\drivers\\x.sys")
        #expect(path("System32\\drivers\\y.sys") == "\\Windows\\System32\\drivers\\y.sys")
        #expect(path("\\SystemRoot\\System32\\y.sys") == "\\Windows\\System32\\y.sys")
        #expect(path("%SystemRoot%\\y.sys") == "\\Windows\\y.sys")
        #expect(path("\\??\\C:\\Windows\\y.sys") == "\\Windows\\y.sys")
    }
}
