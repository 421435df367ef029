// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import LinuxSystem

@Suite struct OpenedLUKSTests {
    /// Both output formats of cryptsetup versions.
    @Test func theStatusOfAnOpenVolume() throws {
        let old = """
            /dev/mapper/reforge-1-a is active.
              type:    LUKS2
              cipher:  aes-xts-plain64
              keysize: 512 bits
              key location: keyring
              device:  /dev/loop0
              loop:    /disk.raw
              sector size:  4096
              offset:  32768 sectors
              size:    196608 sectors
              mode:    readonly
            """
        let new = """
            /dev/mapper/reforge-1-a is active.
              type:    LUKS2
              device:  /dev/loop0
              sector size:  4096 [bytes]
              offset:  32768 [512-byte units] (16777216 [bytes])
              size:    196608 [512-byte units] (100663296 [bytes])
            """
        let expected = OpenedLUKS.Geometry(dataStart: 16 << 20, byteCount: 96 << 20, sectorSize: 4096)
        #expect(try OpenedLUKS.parse(status: old) == expected)
        #expect(try OpenedLUKS.parse(status: new) == expected)
        for (line, instead) in [
            ("sector size:  4096", "sector size:  100"), ("offset:  32768", "offset:  18446744073709551615"),
            ("size:    196608 sectors", "size:    many"), ("offset:", "offsets:"),
        ] {
            let parts = old.split(separator: line, maxSplits: 1, omittingEmptySubsequences: false)
            try #require(parts.count == 2)
            #expect(throws: LUKSOpenError.self) { try OpenedLUKS.parse(status: parts[0] + instead + parts[1]) }
        }
        #expect(throws: LUKSOpenError.self) { try OpenedLUKS.parse(status: "/dev/mapper/x is inactive.") }
    }
}
