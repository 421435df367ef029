// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("cryptsetup"), "needs cryptsetup"))
struct LUKSTests {
    @Test(arguments: [1, 2]) func everythingCounts(version: Int) throws {
        let bench = try Workbench()
        try bench.formatLUKS(version, version == 2 ? ["--label", "secrets"] : [])
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .luks && info.kindName == "crypto_LUKS" && info.inner == nil)
        #expect(
            info.wholeReason
                == "it is encrypted (LUKS\(version)): which of its sectors are in use is known only with its key")
        #expect(info.features == ["LUKS\(version)", "aes-xts-plain64"])
        #expect(map == .whole(byteCount: 32 << 20))
        #expect(try bench.opinion("image") == .found(kindName: "crypto_LUKS", uuid: info.uuid, label: info.label))
        #expect(info.uuid?.utf8.count == 36 && info.label == (version == 2 ? "secrets" : nil))
    }

    /// The second header of LUKS2 is enough for cryptsetup, and for libblkid.
    @Test func theSecondHeaderIsSeen() throws {
        let bench = try Workbench()
        try bench.formatLUKS(2)
        let file = try FileDescriptor.open(bench.path("image"), .readWrite)
        _ = try file.writeAll(toAbsoluteOffset: 0, [UInt8](repeating: 0, count: 4096))
        try file.close()
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .luks && info.remarks == ["has lost its first header; the second one is there"])
        #expect(map == .whole(byteCount: 32 << 20))
        #expect(try bench.opinion("image") == .found(kindName: "crypto_LUKS", uuid: info.uuid, label: info.label))
    }
}
