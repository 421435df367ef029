// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import Testing

@testable import BootRepair

/// The codes of findings, and their list in docs/boot.md.
struct FindingCodeTests {
    @Test func namesAreUniqueAndPlain() {
        let names = FindingCode.all.map(\.name)
        #expect(Set(names).count == names.count)
        for name in names {
            let isPlain = name.allSatisfy { $0 == "-" || $0.isASCII && ($0.isLowercase || $0.isNumber) }
            #expect(isPlain && !name.isEmpty, "\(name)")
        }
        for code in FindingCode.all {
            #expect(!code.meaning.isEmpty && !code.meaning.hasSuffix(".") && !code.meaning.contains("|"), "\(code)")
            #expect(!code.fix.isEmpty && !code.fix.hasSuffix(".") && !code.fix.contains("|"), "\(code)")
        }
    }

    @Test func theDocumentListsEveryCode() throws {
        let root = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()
        let text = try #require(Files.text(root.appending("docs/boot.md")))
        let rows = text.split(separator: "\n").filter { $0.hasPrefix("| `") }.map(String.init)
        let wanted = FindingCode.all.map(\.documentation)
        #expect(rows == wanted, "\(wanted.joined(separator: "\n"))")
    }

    @Test func codesComeInTheOrderOfAStart() {
        let stages = FindingCode.all.map(\.stage)
        #expect(stages == stages.sorted())
    }
}
