// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import Customization

struct IdentifierTextTests {
    static let root = IdentifierChange(IdentityFixture.root, to: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
    static let esp = IdentifierChange("5EED-0002", to: "1234-ABCD")
    static let ntfs = IdentifierChange("74541FDE636F2FA9", to: "0123456789ABCDEF")
    static let all = [root, esp, ntfs]

    private func replaced(_ text: String) -> String? {
        IdentifierText.replacing(Self.all, in: Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func replacesWordsInTheirCase() {
        let (old, new) = (Self.root.old, Self.root.new)
        #expect(replaced("root=UUID=\(old) ro") == "root=UUID=\(new) ro")
        #expect(replaced("/dev/disk/by-uuid/\(old)\n") == "/dev/disk/by-uuid/\(new)\n")
        #expect(replaced("luks-\(old) UUID=\(old)") == "luks-\(new) UUID=\(new)")
        #expect(replaced("UUID=\(old.uppercased())") == "UUID=\(new.uppercased())")
        #expect(replaced("UUID=5EED-0002 /boot/efi") == "UUID=1234-ABCD /boot/efi")
        #expect(replaced("5eed-0002") == "1234-abcd")
        #expect(replaced("UUID=\"74541FDE636F2FA9\"") == "UUID=\"0123456789ABCDEF\"")
    }

    /// The middle of a UUID may look like a volume id of FAT.
    @Test(arguments: [
        "5eed0003-0000-4000-8000-00000000000", "x5eed0003-0000-4000-8000-000000000003",
        "5eed0003-0000-4000-8000-000000000003-1", "5eed0003-0000-4000-8000-0000000000034", "00000000-5EED-0002-8000-0",
        "5EED-00021", "a5EED-0002", "5EED-0002-1", "74541FDE636F2FA90", "", "5EED", "no identifier",
    ])
    func keepsOtherWords(_ text: String) { #expect(replaced(text) == nil) }

    /// Bytes that are no UTF-8 stay, as do line ends and a missing one at the end.
    @Test func keepsAllOtherBytes() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var parts: [[UInt8]] = []
            var expected: [[UInt8]] = []
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let noise = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                    UInt8.random(in: 0...255, using: &generator)
                }.filter { !($0 < 128 && Character(UnicodeScalar($0)).isHexDigit) && $0 != UInt8(ascii: "-") }
                let change = Self.all.randomElement(using: &generator) ?? Self.root
                // A separator that is no part of a word.
                parts += [noise, [10], Array(change.old.utf8), [32]]
                expected += [noise, [10], Array(change.new.utf8), [32]]
            }
            let result = IdentifierText.replacing(Self.all, in: parts.flatMap { $0 })
            #expect(result == expected.flatMap { $0 }, "seed \(seed)")
        }
    }

    @Test func namesWhatIsPresent() {
        let text = Array("a \(Self.esp.old) b".utf8)
        #expect(IdentifierText.present(Self.all, in: text) == [Self.esp])
        #expect(IdentifierText.present([], in: text).isEmpty)
    }

    @Test func recordsPairs() {
        let text = IdentityRecord.text(Self.all)
        #expect(IdentityRecord.parse(text) == Self.all)
        // What is no pair of identifiers counts for nothing: the file is a foreign disk's.
        let hostile = "root root\n../../etc/passwd x\n\(Self.root.old)\n\(Self.root.old) zz\n\n" + text
        #expect(IdentityRecord.parse(hostile) == Self.all)
        #expect(IdentityRecord.parse(String(repeating: text, count: 10000)).count <= 256)
    }
}
