// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Filesystems

/// Filesystems without free space.
struct ReadOnlyFilesystemTests {
    @Test(.enabled(if: Tool.have("mksquashfs"), "needs squashfs-tools")) func squashfs() throws {
        let bench = try Workbench()
        var random = Sample.generator(5600)
        try bench.randomTree("tree", files: 10, maximumByteCount: 20_000, using: &random)
        try bench.sparseFile("image", byteCount: 8 << 20)
        try Tool.run([
            "mksquashfs", bench.path("tree").string, bench.path("image").string, "-noappend", "-quiet", "-no-progress",
        ])
        try expectWhole(bench, "squashfs")
    }

    @Test(.enabled(if: Tool.have("xorriso"), "needs xorriso")) func iso9660() throws {
        let bench = try Workbench()
        var random = Sample.generator(5601)
        try bench.randomTree("tree", files: 10, maximumByteCount: 20_000, using: &random)
        try Tool.run([
            "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", bench.path("image").string, bench.path("tree").string,
        ])
        try expectWhole(bench, "iso9660")
    }

    private func expectWhole(_ bench: Workbench, _ kindName: String) throws {
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .other && info.kindName == kindName)
        #expect(info.wholeReason == "it is a read-only filesystem, all of which is in use")
        #expect(map == .whole(byteCount: map.byteCount))
    }
}
