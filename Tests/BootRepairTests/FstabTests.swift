// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

@Suite struct FstabTests {
    func resolve(
        _ text: String, captured: String? = nil, volumes: [BootVolume] = Fixture.volumes
    ) -> [FstabResolution] {
        FstabResolver(volumes: volumes, rootPartition: 3, capturedDiskName: captured).resolve(Fstab(text).entries)
            .map(\.resolution)
    }

    @Test func entriesByWhatARestoreKeepsAreHere() {
        #expect(
            resolve(
                """
                UUID=\(Fixture.rootUUID) / ext4 defaults 0 1
                UUID="5eed-0002" /boot/efi vfat defaults 0 1
                PARTUUID=\(Fixture.guid(4)) none swap sw 0 0
                LABEL=root /again ext4 defaults 0 0
                /dev/disk/by-uuid/\(Fixture.swapUUID) none swap sw 0 0
                """)
                == [
                    .here(partition: 3), .here(partition: 2), .here(partition: 4), .here(partition: 3),
                    .here(partition: 4),
                ])
    }

    @Test func devicesOfTheRootsDiskHaveMoved() {
        #expect(
            resolve("/dev/sda3 / ext4 defaults 0 1\n/dev/sda4 none swap sw 0 0\n/dev/sdb1 /data xfs defaults 0 2\n")
                == [.moved(partition: 3), .moved(partition: 4), .elsewhere])
    }

    @Test(arguments: [
        "/dev/vda3", "/dev/hda3", "/dev/xvda3", "/dev/nvme0n1p3", "/dev/mmcblk0p3", "/dev/sdaa3",
        "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part3", "/dev/disk/by-path/pci-0000:00:04.0-part3",
    ])
    func deviceNamesOfAllKinds(_ name: String) {
        #expect(resolve("\(name) / ext4 defaults 0 1\n") == [.moved(partition: 3)])
    }

    @Test(arguments: [
        "/dev/sda", "/dev/nvme0n1", "/dev/mapper/vg-root", "/dev/md0", "/dev/dm-3", "/dev/sr0", "/dev/sd3",
    ])
    func otherDevicesAreLeft(_ name: String) {
        #expect(resolve("\(name) / ext4 defaults 0 1\n") == [.elsewhere])
    }

    @Test func aRootOfAnotherNumberIsNotOurs() {
        #expect(resolve("/dev/sda2 / ext4 defaults 0 1\n/dev/sda4 none swap sw 0 0\n") == [.elsewhere, .elsewhere])
    }

    @Test func theOnlyDiskThatFitsIsOurs() {
        let uuid = "UUID=\(Fixture.rootUUID) / ext4 defaults 0 1\n"
        #expect(resolve(uuid + "/dev/sdb4 none swap sw 0 0\n") == [.here(partition: 3), .moved(partition: 4)])
        // A swap partition is not an ext4: another disk.
        #expect(resolve(uuid + "/dev/sdb4 /data ext4 defaults 0 0\n") == [.here(partition: 3), .elsewhere])
        // Two matching disks: ambiguous.
        let two = uuid + "/dev/sda4 none swap sw 0 0\n/dev/sdb2 /boot/efi vfat defaults 0 0\n"
        #expect(resolve(two) == [.here(partition: 3), .elsewhere, .elsewhere])
        // Unless the manifest names the disk.
        #expect(resolve(two, captured: "sda") == [.here(partition: 3), .moved(partition: 4), .elsewhere])
    }

    @Test func whatIsNoDeviceStaysSo() {
        #expect(
            resolve(
                """
                proc /proc proc defaults 0 0
                tmpfs /tmp tmpfs defaults 0 0
                server:/export /mnt nfs defaults 0 0
                /swapfile none swap sw 0 0
                //nas/share /share cifs defaults 0 0
                """) == [.noDevice, .noDevice, .noDevice, .noDevice, .noDevice])
    }

    @Test func rewritingKeepsEverythingElse() {
        let text = """
            # / was on /dev/sda3 during installation
            /dev/sda3                                 /               ext4    errors=remount-ro 0       1
            \t/dev/sda4\tnone\tswap\tsw\t0\t0   # swap
            /dev/sdb1  /data ext4 defaults 0 0

            """
        let changed = Fstab(text).replacing([
            FstabChange(line: 1, from: "/dev/sda3", to: "UUID=\(Fixture.rootUUID)", mountPoint: "/"),
            FstabChange(line: 2, from: "/dev/sda4", to: "UUID=\(Fixture.swapUUID)", mountPoint: "none"),
            // Not the expected word: unchanged.
            FstabChange(line: 3, from: "/dev/sdc1", to: "UUID=x", mountPoint: "/data"),
        ])
        #expect(
            changed == """
                # / was on /dev/sda3 during installation
                UUID=\(Fixture.rootUUID) /               ext4    errors=remount-ro 0       1
                \tUUID=\(Fixture.swapUUID)\tnone\tswap\tsw\t0\t0   # swap
                /dev/sdb1  /data ext4 defaults 0 0

                """)
    }

    @Test func escapedMountPoints() {
        #expect(Fstab("UUID=x /mnt/my\\040disk ext4 noauto,ro 0 0").entries.first?.mountPoint == "/mnt/my disk")
        #expect(Fstab("UUID=x /mnt/my\\040disk ext4 noauto,ro 0 0").entries.first?.isOptional == true)
        #expect(Fstab("lonely\n#UUID=x / ext4\n").entries.isEmpty)
    }
}
