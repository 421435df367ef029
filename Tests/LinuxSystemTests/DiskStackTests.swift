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
    /// volumes on tda2, and dm-99 is a mapping of all of tda.
    init() throws {
        scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        for folder in ["class/block", "block"] { try Files.makeFolders(sys.appending(folder)) }
        let parts = [
            ("tda/tda1", 2048), ("tda/tda2", 4096), ("tdb/tdb1", 2048), ("tmd0/tmd0p1", 0), ("tmd0/tmd0p2", 2048),
        ]
        for disk in ["tda", "tdb", "tmd0", "dm-97", "dm-98", "dm-99"] {
            try Files.makeFolders(sys.appending("devices/block/\(disk)"))
            for folder in ["class/block", "block"] {
                let up = folder == "block" ? ".." : "../.."
                symlink("\(up)/devices/block/\(disk)", sys.appending("\(folder)/\(disk)").string)
            }
        }
        for (place, start) in parts {
            let folder = sys.appending("devices/block/\(place)")
            try Files.makeFolders(folder)
            let name = try #require(folder.lastComponent?.string)
            symlink("../../devices/block/\(place)", sys.appending("class/block/\(name)").string)
            for (file, number) in [("partition", 1), ("start", start), ("size", 2048)] {
                try Files.write(Array("\(number)\n".utf8), to: folder.appending(file))
            }
        }
        for (node, slave) in [
            ("tmd0", "tda1"), ("tmd0", "tdb1"), ("dm-97", "tda2"), ("dm-98", "tda2"), ("dm-99", "tda"),
        ] {
            try Files.makeFolders(sys.appending("devices/block/\(node)/slaves/\(slave)"))
        }
        directory = DiskDirectory(sys: sys)
    }

    @Test(arguments: [
        ("tda", "tda"), ("tda", "tda2"), ("tdb", "tmd0"), ("tmd0p2", "tda"), ("dm-97", "tda2"), ("dm-97", "tda"),
        ("tmd0", "tmd0p1"), ("dm-99", "tda2"), ("tda1", "tmd0p1"),
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
