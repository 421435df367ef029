// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

/// What a start needs of the kernel's modules for the way to its root.
@Suite struct InitramfsNeedsTests {
    static func modules(_ more: String = "") throws -> KernelModules {
        let names = ["ext4", "dm-mod", "raid1", "xts", "ahci", "aesni"] + more.split(separator: " ").map(String.init)
        let texts = [
            "modules.dep": names.map { "a/\($0).ko:\n" }.joined() + "a/dm-crypt.ko: a/dm-mod.ko\n",
            "modules.alias": "alias fs-ext4 ext4\nalias crypto-xts xts\nalias crypto-aes aesni\n",
            "modules.softdep": "softdep ext4 pre: raid6\nsoftdep xts pre: ecb\n",
        ]
        return try KernelModules(version: "1", files: texts.mapValues { Array($0.utf8) })
    }

    private static func needs(
        _ containers: [BootVolume.Container], logical: String? = nil, _ modules: KernelModules
    ) -> [[String]] {
        var volumes = Fixture.volumes
        let index = volumes.firstIndex { $0.number == 3 } ?? 0
        volumes[index].kind = .ext4
        volumes[index].kindName = "ext4"
        volumes[index].inside = containers.isEmpty ? nil : BootVolume.Inside(partition: 3, containers: containers)
        volumes[index].logicalVolume = logical.map { BootVolume.LogicalVolume(name: $0, partition: 3) }
        let device = DeviceDriver(driver: "ahci", module: "ahci")
        let inspector = InitramfsInspector(volumes: volumes, devices: [[device]])
        let system = InstalledSystem(rootPartition: 3, name: "x", identifier: "x")
        return inspector.needs(of: system, modules).map(\.modules)
    }

    @Test func whatRootStandsOn() throws {
        let plain = try Self.modules()
        let mirror = BootVolume.Container.mirror(uuid: nil, contents: 0..<1, members: [3])
        #expect(Self.needs([], plain) == [["ahci"], ["ext4"]])
        #expect(
            Self.needs([mirror, .luks(uuid: nil, cipher: "aes-xts-plain64")], logical: "vg/root", plain)
                == [["ahci"], ["ext4"], ["raid1"], ["dm_crypt"], ["aesni"], ["xts"], ["dm_mod"]])
        // With what modules.softdep names, where this kernel has it.
        let soft = try Self.modules("raid6 ecb")
        #expect(
            Self.needs([.luks(uuid: nil, cipher: "aes-xts-plain64")], soft)
                == [["ahci"], ["ext4"], ["raid6"], ["dm_crypt"], ["aesni"], ["xts"], ["ecb"]])
        // The kernel itself has no driver: it is a need without modules.
        let poor = try KernelModules(version: "1", files: ["modules.dep": Array("a/ext4.ko:\na/ahci.ko:\n".utf8)])
        #expect(Self.needs([mirror], poor) == [["ahci"], ["ext4"], []])
    }
}
