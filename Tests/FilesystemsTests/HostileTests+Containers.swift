// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

extension HostileTests {
    /// Changes numbers and words of the text, and the label and the header of the area; all checksums are correct.
    @Test func lvm() throws {
        let (fixture, text) = HostileFixture.lvm()
        try attack(
            "LVM", fixture, count: 1500, number: 5300,
            change: { reader, random in
                // Usually a text that can still be parsed.
                if Int.random(in: 0..<8, using: &random) > 0 { reader.patches.removeAll() }
                for _ in 0..<Int.random(in: 0...3, using: &random) {
                    let place = text.digits.randomElement(using: &random) ?? text.range.lowerBound
                    reader.patches.append((place, [UInt8.random(in: 48...57, using: &random)]))
                }
            })
    }

    @Test(arguments: ["0.90", "1.0", "1.2"]) func raid(version: String) throws {
        try attack("md \(version)", .raid(version: version), count: 700, number: 5400)
    }

    @Test(.enabled(if: Tool.have("cryptsetup"), "needs cryptsetup"), arguments: [1, 2]) func luks(version: Int) throws {
        try attack("LUKS\(version)", .luks(try HostileFixture.makeLUKS(version: version)), count: 500, number: 5500)
    }

    @Test(.enabled(if: Tool.have("mkfs.f2fs"), "needs f2fs-tools")) func f2fs() throws {
        try attack("F2FS", try .f2fs(try HostileFixture.makeF2FS()), count: 1000, number: 5600)
    }
}
