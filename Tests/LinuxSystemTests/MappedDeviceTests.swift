// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

/// Device-mapper devices in a made-up sysfs.
@Suite struct MappedDeviceTests {
    @Test func devicesAreToldByNameAndGroup() throws {
        let sys = try ScratchFolder()
        for (kernelName, name, uuid) in [
            ("dm-0", "vg--0-root", "LVM-groupidvolumeid"), ("dm-1", "vg-x", "LVM-otheridvolumeid"),
            ("dm-2", "secret", "CRYPT-LUKS2-1"), ("sda", "", ""),
        ] {
            let folder = sys.path.appending("block").appending(kernelName).appending("dm")
            try Files.makeFolders(folder)
            try Files.write(Array("\(name)\n".utf8), to: folder.appending("name"))
            try Files.write(Array("\(uuid)\n".utf8), to: folder.appending("uuid"))
        }
        let devices = MappedDevice.all(sys: sys.path)
        #expect(devices.map(\.name) == ["vg--0-root", "vg-x", "secret"])
        #expect(devices[0].path == "/dev/dm-0" && devices[0].uuid == "LVM-groupidvolumeid")
        #expect(MappedDevice.name(group: "vg-0", volume: "root") == "vg--0-root")
        #expect(MappedDevice.name(group: "vg", volume: "a-b--c") == "vg-a--b----c")
        #expect(devices[0].isOf(groupNamed: "vg-0") && !devices[0].isOf(groupNamed: "vg"))
        #expect(devices[1].isOf(groupNamed: "vg") && !devices[1].isOf(groupNamed: "v"))
        #expect(!devices[2].isOf(groupNamed: "secret"))
    }

    /// While it is removed, it still holds what is below it, and has no name any more.
    @Test func aDeviceWithoutANameIsNotGone() throws {
        let sys = try ScratchFolder()
        let folder = sys.path.appending("block/dm-0/dm")
        try Files.makeFolders(folder)
        func isGone() -> Bool { MappedDevice.waitUntilGone("secret", patience: 0.1, sys: sys.path) }
        #expect(!isGone())
        for (name, gone) in [("secret", false), ("", false), ("another", true)] {
            try Files.write(Array("\(name)\n".utf8), to: folder.appending("name"))
            #expect(isGone() == gone, "\(name)")
        }
        try Files.remove(folder.appending("name"))
        #expect(!isGone())
    }
}
