// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import Testing

@testable import BootRepair

/// References to devices in command lines, and their judgement on a restored disk.
struct ReferenceTests {
    private static func words(_ line: String) -> [DeviceWord] { KernelArguments.words(in: line, line: 0) }

    private static func judge(_ words: [DeviceWord] = [], captured: String? = nil) -> DeviceJudge {
        DeviceJudge(volumes: Fixture.volumes, rootPartition: 3, capturedDiskName: captured, words: words)
    }

    @Test func argumentsThatNameDevices() {
        let words = Self.words(
            "ro root=UUID=a-b resume=/dev/sda4 quiet rd.luks.uuid=luks-5eed cryptdevice=UUID=x:root:discard "
                + "rd.luks.name=y=root rd.lvm.lv=vg0/root rd.md.uuid=1:2 mount.usr=LABEL=usr rootflags=subvol=@ root=")
        #expect(
            words.map { "\($0.word) \($0.use.rawValue) \($0.value)" } == [
                "1 root UUID=a-b", "2 resume /dev/sda4", "4 encrypted 5eed", "5 encrypted UUID=x", "6 encrypted y",
                "7 logicalVolume vg0/root", "8 array 1:2", "9 other LABEL=usr",
            ])
        #expect(Self.words("root=\"UUID=a\" 'resume=/dev/sdb1'").map(\.value) == ["UUID=a", "/dev/sdb1"])
        let grub = Self.words("GRUB_CMDLINE_LINUX=\"root=/dev/sda3 resume=/dev/sda4\"")
        #expect(grub.map(\.value) == ["/dev/sda3", "/dev/sda4"])
        #expect(grub[0].change(to: "UUID=x")?.to == "GRUB_CMDLINE_LINUX=\"root=UUID=x")
    }

    @Test func linksOfUdevAreTheirTags() {
        #expect(BootReference("/dev/disk/by-uuid/AB-cd") == .filesystem("ab-cd"))
        #expect(BootReference("/dev/disk/by-partuuid/AB") == .partition("ab"))
        #expect(BootReference("/dev/disk/by-label/my\\x20root") == .label("my root"))
        #expect(BootReference("UUID=\"ab\"") == .filesystem("ab"))
        #expect(BootReference("/dev/disk/by-id/ata-x-part1") == .device("/dev/disk/by-id/ata-x-part1"))
    }

    /// A GPT that replaces an MBR gives partitions other PARTUUIDs.
    @Test func partUUIDsOfTheCapturedMBR() {
        let names = ["5eed0001-03": 3, "5eed0001-04": 4]
        let words = Self.words("resume=PARTUUID=5EED0001-04 rd.luks.name=PARTUUID=5eed0001-04=x")
        let told = DeviceJudge(volumes: Fixture.volumes, rootPartition: 3, capturedPartUUIDs: names)
        #expect(told.verdict(of: words[0]) == .moved(4))
        #expect(told.replacement(for: words[0]) == "UUID=\(Fixture.swapUUID)")
        let mount = Self.words("mount.usr=PARTUUID=5eed0001-04")
        #expect(told.verdict(of: mount[0]) == .moved(4))
        // At a later time, only the root's own number shows that the signature was this disk's.
        let judge = Self.judge(Self.words("root=PARTUUID=5eed0001-03 ro") + words)
        #expect(judge.verdict(of: mount[0]) == .moved(4))
        #expect(Self.judge(Self.words("root=PARTUUID=5eed0001-02")).verdict(of: mount[0]) == .lost)
        #expect(judge.verdict(of: Self.words("mount.usr=PARTUUID=5eed0002-04")[0]) == .lost)
        #expect(judge.verdict(of: Self.words("mount.usr=PARTUUID=5eed0001-09")[0]) == .lost)
        #expect(MBRPartitionName(partUUID: "5eed0001-1f")?.number == 31)
        for text in ["5eed0001-00", "5eed0001", "5eed001-03", "5eed0001-03-1", "5eed0001--3", Fixture.rootUUID] {
            #expect(MBRPartitionName(partUUID: text) == nil, "\(text)")
        }
    }

    @Test func kernelNamesOfTheCapturedDisk() {
        // The root's number shows which disk it was.
        let words = Self.words("root=/dev/sda3 resume=/dev/sda4")
        let judge = Self.judge(words)
        #expect(words.map { judge.verdict(of: $0) } == [.moved(3), .moved(4)])
        #expect(judge.replacement(for: words[0]) == "UUID=\(Fixture.rootUUID)")
        #expect(judge.replacement(for: words[1]) == "UUID=\(Fixture.swapUUID)")
        // Without an initramfs, the kernel finds partitions only.
        #expect(judge.replacement(for: words[0], hasInitramfs: false) == "PARTUUID=\(Fixture.volumes[2].partUUID)")
        // By id, and by path.
        for disk in ["disk/by-id/ata-DISK_1", "disk/by-path/pci-0000:00:1f.2-ata-1"] {
            let words = Self.words("root=/dev/\(disk)-part3")
            #expect(Self.judge(words).verdict(of: words[0]) == .moved(3))
        }
        // A name on another disk, or that of another kind of contents.
        let other = Self.words("root=/dev/sdb2 resume=/dev/sda4")
        #expect(other.map { Self.judge(other).verdict(of: $0) } == [.lost, .lost])
        #expect(Self.judge(captured: "sda").verdict(of: Self.words("resume=/dev/sda2")[0]) == .lost)
    }

    @Test func identifiers() {
        let here = Self.words(
            "root=UUID=\(Fixture.rootUUID.uppercased()) resume=PARTUUID=\(Fixture.volumes[3].partUUID) root=LABEL=root")
        #expect(here.map { Self.judge().verdict(of: $0) } == [.here(3), .here(4), .here(3)])
        let lost = Self.words(
            "root=PARTUUID=5eed0009-0000-4000-8000-000000000009 resume=UUID=5eed0009-0000-4000-8000-000000000009")
        let judge = Self.judge()
        #expect(lost.map { judge.verdict(of: $0) } == [.lost, .lost])
        // The root is the system's; the swap is the only one.
        #expect(
            lost.map { judge.replacement(for: $0) } == ["UUID=\(Fixture.rootUUID)", "UUID=\(Fixture.swapUUID)"])
        let unknown = Self.words(
            "root=/dev/mapper/x root=LABEL=none root=/dev/md0 rd.lvm.lv=a/b root=PARTUUID=x/PARTNROFF=1")
        #expect(unknown.allSatisfy { judge.verdict(of: $0) == .unknown })
    }

    @Test func encryptedVolumes() {
        var volumes = Fixture.volumes
        volumes.append(
            Fixture.volume(
                5, 1200..<1210, PartitionType.linuxFilesystem, .luks, "crypto_LUKS", "abcd0005-0000-4000-8000-0"))
        let judge = DeviceJudge(volumes: volumes, rootPartition: 3, capturedDiskName: "sda")
        func verdict(_ text: String) -> DeviceJudge.Verdict { judge.verdict(of: Self.words(text)[0]) }
        #expect(verdict("rd.luks.uuid=luks-ABCD0005") == .here(5))
        #expect(verdict("rd.luks.uuid=5eed0009-0000-4000-8000-000000000009") == .lost)
        #expect(verdict("rd.luks.uuid=ab") == .unknown)
        #expect(verdict("cryptdevice=/dev/sda5:root") == .moved(5))
        let word = Self.words("cryptdevice=/dev/sda5:root:discard")[0]
        #expect(
            judge.replacement(for: word).flatMap { word.change(to: $0)?.to }
                == "cryptdevice=UUID=abcd0005-0000-4000-8000-0:root:discard")
    }
}
