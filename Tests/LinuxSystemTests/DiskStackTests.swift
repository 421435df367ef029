// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

/// Which nodes share bytes, on a made-up tree of sysfs.
@Suite struct DiskStackTests {
    private let scratch: ScratchFolder
    private let directory: DiskDirectory

    /// tda has tda1 and tda2; tdb has tdb1; tmd0 is on tda1 and tdb1, and has tmd0p1 and tmd0p2; dm-97 and dm-98 are
    /// volumes on tda2.
    init() throws {
        scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        try Files.makeFolders(sys.appending("class/block"))
        let parts = ["tda/tda1", "tda/tda2", "tdb/tdb1", "tmd0/tmd0p1", "tmd0/tmd0p2"]
        for place in ["tda", "tdb", "tmd0", "dm-97", "dm-98"] + parts {
            let name = place.split(separator: "/").last.map(String.init) ?? place
            try Files.makeFolders(sys.appending("devices/block/\(place)"))
            symlink("../../devices/block/\(place)", sys.appending("class/block/\(name)").string)
        }
        for part in parts { try Files.write([0x31], to: sys.appending("devices/block/\(part)/partition")) }
        for (node, slave) in [("tmd0", "tda1"), ("tmd0", "tdb1"), ("dm-97", "tda2"), ("dm-98", "tda2")] {
            try Files.makeFolders(sys.appending("devices/block/\(node)/slaves/\(slave)"))
        }
        directory = DiskDirectory(sys: sys)
    }

    @Test func aNodeLiesOnAllNodesBelowIt() {
        #expect(
            directory.nodesBelow(including: "tmd0p1") == ["tmd0p1", "tmd0", "tda1", "tdb1", "tda", "tdb"])
        #expect(directory.nodesBelow(including: "tda") == ["tda"])
    }

    @Test(arguments: [
        ("tda", "tda"), ("tda", "tda2"), ("tdb", "tmd0"), ("tmd0p2", "tda"), ("dm-97", "tda2"), ("dm-97", "tda"),
        ("tmd0", "tmd0p1"),
    ]) func stackedNodesShareBytes(one: String, other: String) {
        #expect(directory.overlap(one, other) && directory.overlap(other, one))
    }

    @Test(arguments: [
        ("tda", "tdb"), ("tda1", "tda2"), ("tmd0p1", "tmd0p2"), ("dm-97", "dm-98"), ("dm-97", "tda1"),
        ("tmd0", "tda2"),
    ]) func neighboursShareNone(one: String, other: String) {
        #expect(!directory.overlap(one, other) && !directory.overlap(other, one))
    }
}
