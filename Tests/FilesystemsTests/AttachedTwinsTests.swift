// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

struct AttachedTwinsTests {
    @Test(.enabled(if: Tool.have("mke2fs", "losetup"))) func copiesAreFoundByTheirUUID() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 8 << 20)
        try Tool.run(["mke2fs", "-q", "-t", "ext4", image.string])
        let copy = try bench.sparseFile("copy", byteCount: 8 << 20)
        try Tool.run(["cp", image.string, copy.string])
        let other = try bench.sparseFile("other", byteCount: 8 << 20)
        try Tool.run(["mke2fs", "-q", "-t", "ext4", other.string])
        let (filesystem, _) = try bench.survey("image")

        #expect(AttachedTwins.nodes(of: filesystem, besides: nil).isEmpty)
        let one = try LoopDevice(over: image, range: 0..<8 << 20)
        let two = try LoopDevice(over: copy, range: 0..<8 << 20, readOnly: true)
        let three = try LoopDevice(over: other, range: 0..<8 << 20)
        let found = AttachedTwins.nodes(of: filesystem, besides: nil)
        #expect(Set(found) == [one.path.string, two.path.string])
        #expect(
            AttachedTwins.nodes(of: filesystem, besides: one.path.lastComponent?.string) == [two.path.string])
        _ = consume three
    }
}
