// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import WindowsFiles

/// hivex, a reader and writer that is not Reforge's.
enum Hivex {
    private static let python = "/usr/bin/python3"
    private static let script = FilePath(#filePath).removingLastComponent().appending("hives.py").string

    static let isThere = (try? ChildProcess.run([python, "-c", "import hivex"]))?.succeeded == true

    @discardableResult static func run(_ arguments: [String]) throws -> String {
        let output = try ChildProcess.run([python, script] + arguments, timeoutSeconds: 300)
        guard output.succeeded else { throw WindowsFileError.damaged("hives.py: \(output.lastWords)") }
        return output.text
    }

    /// All values of hives: path, name, type and data by tabs; sorted, by the names of the files.
    static func dump(_ paths: [FilePath]) throws -> [String: [String]] {
        var dumps: [String: [String]] = [:]
        var name = ""
        for line in try run(["dump"] + paths.map(\.string)).split(separator: "\n") {
            if line.hasPrefix("# ") {
                name = String(line.dropFirst(2))
            } else {
                dumps[name, default: []].append(String(line))
            }
        }
        return dumps.mapValues { $0.sorted() }
    }
}

/// Hives and stores that hivex made at random: Reforge reads the same as hivex; what it changes in place is exactly the
/// intended, and hivex reads that.
@Suite(.enabled(if: Hivex.isThere, "needs python3-hivex")) struct HivexTests {
    /// The whole run is the 200 of the promise.
    private static let count = Sample.isFull ? 200 : 25

    /// What Reforge reads, in the form of `Hivex.dump`.
    private static func dump(_ hive: RegistryHive) throws -> [String] {
        var lines: [String] = []
        func walk(_ key: HiveKey, _ place: String) throws {
            lines.append(place + "\t\t\t")
            for value in try hive.values(of: key) {
                let data = hive.data(of: value)
                let text =
                    data.count <= 200 ? hex(data) : "\(data.count) bytes, CRC-32 \(CRC32.iso.checksum(data))"
                lines.append("\(place)\t\(value.name)\t\(value.type)\t\(text)")
            }
            for subkey in try hive.subkeys(of: key) { try walk(subkey, "\(place)\\\(subkey.name)") }
        }
        try walk(try hive.root, "")
        return lines.sorted()
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// Applies changes to a file, and says which bytes differ.
    private static func patched(_ bytes: [UInt8], _ changes: [(offset: Int, bytes: [UInt8])]) -> [UInt8] {
        var new = bytes
        for change in changes {
            new.replaceSubrange(change.offset..<change.offset + change.bytes.count, with: change.bytes)
        }
        return new
    }

    @Test func storesAreReadAndChangedInPlace() throws {
        let seed = Int(Sample.seed() % 1_000_000_000)
        let folder = try ScratchFolder()
        try Hivex.run(["make", "\(seed)", "\(Self.count)", folder.path.string])
        let paths = (seed..<seed + Self.count).map { folder.path.appending("\($0).bcd") }
        let before = try Hivex.dump(paths)
        var random = SeededGenerator(seed: UInt64(seed))
        var expected: [String: [String]] = [:]
        var changeCount = 0
        for path in paths {
            let name = path.lastComponent?.string ?? ""
            let bytes = try Files.read(path)
            let hive = try RegistryHive(bytes)
            let lines = try #require(before[name])
            let isSame = try Self.dump(hive) == lines
            #expect(isSame, "seed \(seed): \(name)")
            var changes: [(offset: Int, bytes: [UInt8])] = []
            var after = lines
            for object in try BCDStore(hive).objects {
                for element in object.elements where element.isDevice && Bool.random(using: &random) {
                    guard case .partition(let old)? = try? BCDDevice(element.data) else { continue }
                    let new: BCDPartition =
                        switch old {
                        case .gpt: .gpt(partition: .random(), disk: .random())
                        case .mbr:
                            .mbr(
                                start: (random.next() >> 20) &* 512,
                                signature: UInt32(truncatingIfNeeded: random.next()))
                        }
                    let data = try BCDDevice.replacing(new, in: element.data)
                    #expect(try BCDDevice(data) == .partition(new))
                    #expect(data.count == element.data.count && element.ranges.count == 1)
                    changes.append((element.ranges[0].lowerBound, data))
                    let digits = String(element.type, radix: 16)
                    let place = "\\Objects\\{\(object.identifier)}\\Elements\\\(digits)\tElement\t3\t"
                    let index = try #require(after.firstIndex(of: place + Self.hex(element.data)), "\(place)")
                    after[index] = place + Self.hex(data)
                }
            }
            changeCount += changes.count
            expected[name] = after.sorted()
            let new = Self.patched(bytes, changes)
            let differing = zip(bytes, new).enumerated().filter { $0.element.0 != $0.element.1 }.map(\.offset)
            #expect(differing.allSatisfy { place in changes.contains { ($0.offset..<$0.offset + 88).contains(place) } })
            #expect(new.count == bytes.count)
            try Files.write(new, to: path)
        }
        let isAsExpected = try Hivex.dump(paths) == expected
        #expect(isAsExpected, "seed \(seed)")
        #expect(changeCount > Self.count / 2, "seed \(seed)")
    }

    @Test func driversAreReadAndStartedInPlace() throws {
        let seed = Int(Sample.seed() % 1_000_000_000)
        let folder = try ScratchFolder()
        try Hivex.run(["make", "\(seed)", "\(Self.count)", folder.path.string])
        let paths = (seed..<seed + Self.count).map { folder.path.appending("\($0).system") }
        let before = try Hivex.dump(paths)
        var expected: [String: [String]] = [:]
        var changeCount = 0
        for path in paths {
            let name = path.lastComponent?.string ?? ""
            let bytes = try Files.read(path)
            let hive = try RegistryHive(bytes)
            let lines = try #require(before[name])
            let isSame = try Self.dump(hive) == lines
            #expect(isSame, "seed \(seed): \(name)")
            let sets = try ControlSets(hive)
            let selectsIt = lines.contains("\\Select\tCurrent\t4\t0\(sets.numbers[0])000000")
            #expect(selectsIt, "seed \(seed): \(name)")
            var changes: [(offset: Int, bytes: [UInt8])] = []
            var after = Set(lines)
            for driver in try sets.drivers(["stornvme", "STORAHCI", "viostor"], systemRoot: "\\Windows") {
                let words = try #require(driver.wordsToClear)
                #expect(words.isEmpty == driver.startsAtBoot)
                for word in words { changes.append((word.offset, [0, 0, 0, 0])) }
                let key = "\\ControlSet00\(driver.controlSet)\\Services\\\(driver.name.lowercased())"
                for place in ["\(key)\tStart", "\(key)\\StartOverride\t0"] {
                    guard let old = after.first(where: { $0.hasPrefix("\(place)\t4\t") }) else { continue }
                    after.remove(old)
                    after.insert("\(place)\t4\t00000000")
                }
            }
            changeCount += changes.count
            expected[name] = after.sorted()
            try Files.write(Self.patched(bytes, changes), to: path)
            for driver in try ControlSets(RegistryHive(try Files.read(path))).drivers(["stornvme"], systemRoot: "") {
                #expect(driver.startsAtBoot)
            }
        }
        let isAsExpected = try Hivex.dump(paths) == expected
        #expect(isAsExpected, "seed \(seed)")
        #expect(changeCount > Self.count / 4, "seed \(seed)")
    }

    /// hivexregedit exports and hivexsh lists what was changed.
    @Test(.enabled(if: ChildProcess.canFind("hivexregedit") && ChildProcess.canFind("hivexsh"), "needs libhivex-bin"))
    func othersReadTheChange() throws {
        let folder = try ScratchFolder()
        let path = folder.path.appending("SYSTEM")
        var bytes = WindowsFixture.system([("stornvme", 3, 3), ("storahci", 0, nil)])
        let drivers = try ControlSets(RegistryHive(bytes)).drivers(["stornvme"], systemRoot: "\\Windows")
        for word in try #require(drivers.first?.wordsToClear) { bytes.setLittleEndian(0 as UInt32, at: word.offset) }
        try Files.write(bytes, to: path)
        let exported = try ChildProcess.run(
            ["hivexregedit", "--export", path.string, "\\ControlSet001\\Services\\stornvme"]).text
        #expect(exported.contains("\"Start\"=dword:00000000"))
        #expect(exported.contains("\"0\"=dword:00000000"))
        let shell = try ChildProcess.run(
            ["hivexsh", path.string],
            input: Array("cd \\ControlSet001\\Services\\stornvme\nlsval Start\ncd StartOverride\nlsval 0\n".utf8))
        #expect(shell.succeeded && shell.text.split(separator: "\n") == ["0", "0"], "\(shell.text)")
    }
}
