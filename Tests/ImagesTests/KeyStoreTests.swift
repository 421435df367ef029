// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import LinuxSystem
import ObjectStore
import SystemPackage
import TestSupport
import Testing

@testable import ImageModel
@testable import Repository

/// A low cost for tests.
let cheap = PasswordCost(rounds: 16, blockSize: 8, parallelism: 1)

@Suite struct KeyStoreTests {
    private let password = Array("correct horse".utf8)

    private func isKeyError(_ text: String? = nil, _ body: () throws -> Void) -> Bool {
        do {
            try body()
            return false
        } catch ImageError.key(let why) {
            return text.map { why.contains($0) } ?? true
        } catch { return false }
    }

    @Test func aKeyOpensWithItsPasswordAlone() throws {
        let keys = MasterKeys.random()
        let wrapped = try WrappedKey.wrap(keys, password: password, label: "me@here", cost: cheap)
        let read = try WrappedKey(bytes: try wrapped.bytes(), name: "key")
        #expect(read == wrapped)
        #expect(read.label == "me@here" && read.scrypt == cheap && read.id.count == 16)
        let open = try #require(try read.unwrap(password: password, name: "key"))
        #expect(open.data.bytes == keys.data.bytes && open.id.bytes == keys.id.bytes)
        for other in ["correct horsf", "correct horse ", "c", "correct horse\n"] {
            #expect(try read.unwrap(password: Array(other.utf8), name: "key") == nil)
        }
        let again = try WrappedKey.wrap(keys, password: password, label: "me@here", cost: cheap)
        #expect(again.id != wrapped.id && again.salt != wrapped.salt)
        // The file contains neither the keys nor the password.
        let text = String(decoding: try wrapped.bytes(), as: UTF8.self)
        #expect(!text.contains(Hexadecimal.text(keys.data.bytes)) && !text.contains("correct horse"))
    }

    @Test func everyFlippedBitOfAKeyFileIsDamageAndNoWrongPassword() throws {
        let wrapped = try WrappedKey.wrap(.random(), password: password, label: "me@here", cost: cheap)
        let bytes = try wrapped.bytes()
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            do {
                _ = try WrappedKey(bytes: damaged, name: "key")
                Issue.record("bit \(bit) of \(String(decoding: bytes, as: UTF8.self)) was not seen")
            } catch {
                switch error {
                case .damaged, .unsupported: break
                default: Issue.record("bit \(bit): \(error)")
                }
            }
        }
        for count in 0..<bytes.count {
            #expect(throws: ImageError.self) { try WrappedKey(bytes: Array(bytes.prefix(count)), name: "key") }
        }
    }

    /// Files with a valid checksum and invalid numbers.
    @Test func hostileParametersAreRefusedBeforeTheyAreUsed() throws {
        let wrapped = try WrappedKey.wrap(.random(), password: password, label: "x", cost: cheap)
        let text = String(decoding: try wrapped.bytes(), as: UTF8.self)
        let costs: [(Int, Int, Int)] = [
            (0, 8, 1), (1, 8, 1), (-16, 8, 1), (17, 8, 1), (1 << 40, 8, 1), (.max, 8, 1), (.min, 8, 1), (16, 0, 1),
            (16, -8, 1), (16, 17, 1), (16, .max, 1), (16, 8, 0), (16, 8, -1), (16, 8, 17), (16, 8, .max),
            (1 << 21, 8, 1), (1 << 20, 16, 1), (1 << 20, 8, 16),
        ]
        for (rounds, blockSize, parallelism) in costs {
            let changed = try Self.rechecked(text) { parts in
                parts = parts.replacing("\"rounds\":16", with: "\"rounds\":\(rounds)")
                    .replacing("\"blockSize\":8", with: "\"blockSize\":\(blockSize)")
                    .replacing("\"parallelism\":1", with: "\"parallelism\":\(parallelism)")
            } line: {
                $0[3] = "\(rounds) \(blockSize) \(parallelism)"
            }
            do {
                _ = try WrappedKey(bytes: Array(changed.utf8), name: "key")
                Issue.record("accepted \(rounds) \(blockSize) \(parallelism)")
            } catch {
                #expect(!"\(error)".contains("checksum"), "the test's own checksum is wrong")
            }
            #expect(throws: ImageError.self) {
                try WrappedKey.wrap(
                    .random(), password: password, label: "x",
                    cost: PasswordCost(rounds: rounds, blockSize: blockSize, parallelism: parallelism))
            }
        }
        // Control: an unchanged file passes the same procedure.
        let same = try Self.rechecked(text) { _ in
        } line: { _ in
        }
        #expect(try WrappedKey(bytes: Array(same.utf8), name: "key") == wrapped)
        // A label with terminal control sequences.
        let label = try Self.rechecked(text) {
            $0 = $0.replacing("\"label\":\"x\"", with: "\"label\":\"\\u001b[2J\"")
        } line: {
            $0[6] = "\u{1B}[2J"
        }
        #expect(throws: ImageError.self) { try WrappedKey(bytes: Array(label.utf8), name: "key") }
        #expect(try WrappedKey.wrap(.random(), password: [1], label: "a\u{1B}[2Jb", cost: cheap).label == "a?[2Jb")
        let newer = text.replacing("\"version\":1", with: "\"version\":2")
        do {
            _ = try WrappedKey(bytes: Array(newer.utf8), name: "key")
            Issue.record("accepted")
        } catch {
            guard case .unsupported = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// Changes a key file's text, and corrects its checksum by the definition of RepositoryFormat.md: over the sealed
    /// keys and the lines of the readable parts.
    static func rechecked(
        _ text: String, _ change: (inout String) -> Void, line: (inout [String]) -> Void
    ) throws -> String {
        let key = try WrappedKey(bytes: Array(text.utf8), name: "key")
        var lines = [
            "reforge key 1", key.id, key.created,
            "\(key.scrypt.rounds) \(key.scrypt.blockSize) \(key.scrypt.parallelism)", key.salt, key.masterID,
            key.label,
        ]
        line(&lines)
        var result = text
        change(&result)
        let checksum = ContentHash(of: Array(([key.sealed] + lines).joined(separator: "\n").utf8)).description
        return result.replacing(key.checksum, with: checksum)
    }

    @Test func randomDamageNeverTraps() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        let bytes = try WrappedKey.wrap(.random(), password: password, label: "x", cost: cheap).bytes()
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let place = Int.random(in: 0..<damaged.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: damaged[place] = UInt8.random(in: 0...255, using: &random)
                case 1: damaged.insert(UInt8.random(in: 32...126, using: &random), at: place)
                default: damaged.remove(at: place)
                }
            }
            if damaged == bytes { continue }
            // White space does not change a key.
            guard let same = try? WrappedKey(bytes: damaged, name: "key").bytes() else { continue }
            #expect(same == bytes, "seed \(seed)")
        }
    }

    @Test func storesAddUnlockAndRemove() throws {
        let scratch = try ScratchFolder()
        let store = KeyStore(LocalStore(scratch.path))
        #expect(throws: ImageError.self) { try store.list() }
        try LocalStore(scratch.path).prepare()
        let keys = MasterKeys.random()
        let first = try store.add(keys, password: password, label: "first", cost: cheap)
        #expect(isKeyError("wrong password for \(scratch.path)") { _ = try store.unlock(password: [1]) })
        let second = try store.add(
            try store.unlock(password: password), password: Array("second".utf8), label: "second", cost: cheap)
        #expect(try Set(store.list().keys.map(\.label)) == ["first", "second"])
        for word in [password, Array("second".utf8)] {
            #expect(try store.unlock(password: word).data.bytes == keys.data.bytes)
        }
        // The password of the removed key does not prove that another one remains.
        #expect(isKeyError(first.id) { try store.remove(first.id, password: password) })
        #expect(isKeyError { try store.remove(first.id, password: [9]) })
        #expect(throws: ImageError.self) { try store.remove("ffff", password: password) }
        #expect(throws: ImageError.self) { try store.remove("", password: password) }
        #expect(try store.list().keys.count == 2)
        #expect(try store.remove(String(first.id.prefix(6)), password: Array("second".utf8)) == first.id)
        #expect(isKeyError { _ = try store.unlock(password: password) })
        #expect(isKeyError("last") { try store.remove(second.id, password: Array("second".utf8)) })
        #expect(try store.unlock(password: Array("second".utf8)).id.bytes == keys.id.bytes)
        #expect(Files.names(in: scratch.path.appending("keys")) == ["\(second.id).json"])
    }

    @Test func damagedKeyFilesAreNamedAndStandInNobodysWay() throws {
        let scratch = try ScratchFolder()
        let store = KeyStore(LocalStore(scratch.path))
        try LocalStore(scratch.path).prepare()
        let keys = MasterKeys.random()
        let first = try store.add(keys, password: password, label: "first", cost: cheap)
        let second = try store.add(keys, password: [2], label: "second", cost: cheap)
        let path = scratch.path.appending("keys/\(first.id).json")
        var bytes = try Files.read(path)
        bytes[bytes.count / 2] ^= 1
        try Files.write(bytes, to: path)
        #expect(try store.unlock(password: [2]).data.bytes == keys.data.bytes)
        #expect(try store.list().unusable.map(\.name) == [path.string])
        // The password of the damaged key: the message must say more than "wrong password".
        #expect(isKeyError("\(first.id).json is damaged") { _ = try store.unlock(password: password) })
        // An intact key file under the name of another.
        try Files.write(
            try Files.read(scratch.path.appending("keys/\(second.id).json")),
            to: scratch.path.appending("keys/0123456789abcdef.json"))
        #expect(try store.list().unusable.count == 2)
        // The only intact key is kept; damaged ones may be removed.
        #expect(isKeyError("last") { try store.remove(second.id, password: [2]) })
        try store.remove(first.id, password: [2])
        try store.remove("0123456789abcdef", password: [2])
        #expect(try store.list().unusable.isEmpty)
        try Files.write(bytes, to: scratch.path.appending("keys/\(second.id).json"))
        do {
            _ = try store.unlock(password: [2])
            Issue.record("unlocked")
        } catch {
            guard case .damaged = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// A key file of another repository, even under the same password, is not accepted.
    @Test func keyFilesOfDifferentRepositoriesDoNotMix() throws {
        let scratch = try ScratchFolder()
        let (ownPath, otherPath) = (scratch.path.appending("one"), scratch.path.appending("other"))
        let (one, other) = (KeyStore(LocalStore(ownPath)), KeyStore(LocalStore(otherPath)))
        for path in [ownPath, otherPath] { try LocalStore(path).prepare() }
        let own = try one.add(.random(), password: password, label: "own", cost: cheap)
        let foreign = try other.add(.random(), password: password, label: "foreign", cost: cheap)
        let name = "keys/\(foreign.id).json"
        try Files.write(try Files.read(otherPath.appending(name)), to: ownPath.appending(name))
        for body in [
            { _ = try one.unlock(password: password) }, { _ = try one.remove(own.id, password: password) },
        ] as [() throws -> Void] {
            do {
                try body()
                Issue.record("accepted")
            } catch let error as ImageError {
                guard case .ambiguous(let why) = error else {
                    Issue.record("\(error)")
                    continue
                }
                #expect(why.contains(foreign.id) && why.contains(own.id))
            }
        }
        try Files.remove(ownPath.appending(name))
        _ = try one.unlock(password: password)
    }

    @Test func twoThatRemoveAtOnceLeaveOneKey() throws {
        for _ in 0..<20 {
            let scratch = try ScratchFolder()
            let store = KeyStore(LocalStore(scratch.path))
            try LocalStore(scratch.path).prepare()
            let keys = MasterKeys.random()
            let first = try store.add(keys, password: [1], label: "first", cost: cheap)
            let second = try store.add(keys, password: [2], label: "second", cost: cheap)
            let threads = try [(first.id, UInt8(2)), (second.id, UInt8(1))].map { id, word in
                try WorkerThread { _ = try? store.remove(id, password: [word]) }
            }
            for thread in threads { thread.join() }
            #expect(try store.list().keys.count == 1)
        }
    }

    @Test func theStandardCostsEnoughAndNotTooMuch() {
        let cost = PasswordCost.standard
        #expect(cost.contradiction == nil)
        #expect(128 * cost.rounds * cost.blockSize >= 64 << 20)
        #expect(128 * cost.rounds * cost.blockSize <= 128 << 20)
    }

    @Test func passwordsAreBytesWithoutTheLastNewline() throws {
        func read(_ text: String) throws -> [UInt8] { try PasswordBytes.from(Array(text.utf8), source: "test") }
        #expect(try read("a b\n") == Array("a b".utf8))
        #expect(try read("a\r\n") == Array("a".utf8))
        #expect(try read("a\r") == Array("a\r".utf8))
        #expect(try read("a\n\n") == Array("a\n".utf8))
        #expect(try read(" ") == [32])
        #expect(try PasswordBytes.from([0, 255, 10], source: "test") == [0, 255])
        for empty in ["", "\n", "\r\n"] { #expect(isKeyError("test") { _ = try read(empty) }) }
        #expect(isKeyError("longer") { _ = try read(String(repeating: "a", count: 5000)) })
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("password")
        try Files.write(Array(String(repeating: "é", count: 2048).utf8) + [13, 10], to: path)
        #expect(try PasswordBytes.read(path).count == 4096)
        try Files.write([UInt8](repeating: 65, count: 4097), to: path)
        #expect(isKeyError { _ = try PasswordBytes.read(path) })
        try Files.write([UInt8](repeating: 65, count: 100_000), to: path)
        #expect(isKeyError { _ = try PasswordBytes.read(path) })
        #expect(throws: ImageError.self) { try PasswordBytes.read(scratch.path.appending("none")) }
    }
}
