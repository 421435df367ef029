// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess

@testable import BootRepair

/// A made-up Debian disk: BIOS boot, ESP, ext4 root, swap.
enum Fixture {
    static let rootUUID = "5eed0003-0000-4000-8000-000000000003"
    static let swapUUID = "5eed0004-0000-4000-8000-000000000004"
    static let espUUID = "5EED-0002"
    static let mebibyte: UInt64 = 1 << 20

    static func guid(_ number: Int) -> GUID {
        GUID("5eed000\(number)-0000-4000-8000-00000000000\(number)") ?? .zero
    }

    static func volume(
        _ number: Int, _ range: Range<UInt64>, _ type: String, _ kind: FilesystemInfo.Kind, _ name: String,
        _ uuid: String?, label: String? = nil
    ) -> BootVolume {
        BootVolume(
            number: number, range: range.lowerBound * mebibyte..<range.upperBound * mebibyte,
            typeGUID: GUID(type) ?? .zero, guid: guid(number), kind: kind, kindName: name, uuid: uuid, label: label)
    }

    static let volumes = [
        volume(1, 1..<2, PartitionType.biosBoot, .unknown, "unknown", nil),
        volume(2, 2..<66, PartitionType.efiSystem, .fat32, "vfat", espUUID),
        volume(3, 66..<1000, PartitionType.linuxFilesystem, .ext4, "ext4", rootUUID, label: "root"),
        volume(4, 1000..<1200, PartitionType.linuxSwap, .swap, "swap", swapUUID),
    ]

    static let fstab = """
        # <file system> <mount point> <type> <options> <dump> <pass>
        UUID=\(rootUUID) / ext4 errors=remount-ro 0 1
        UUID=\(espUUID) /boot/efi vfat umask=0077 0 1
        UUID=\(swapUUID) none swap sw 0 0

        """

    static func system(_ fstab: String = fstab) -> InstalledSystem {
        InstalledSystem(
            rootPartition: 3, name: "Debian GNU/Linux 12 (bookworm)", identifier: "debian",
            fstab: FstabResolver(volumes: volumes, rootPartition: 3).resolve(Fstab(fstab).entries),
            kernels: [.init(name: "vmlinuz-6.1.0-18-amd64", initramfs: "initrd.img-6.1.0-18-amd64")])
    }

    static let grub = GrubInstallation(
        install: "grub-install", update: ["update-grub"], platforms: ["i386-pc", "x86_64-efi"],
        configurationProblems: [], hasCoreImage: true, bootImage: "/boot/grub/i386-pc/boot.img")

    static let loader = EFILoader(path: "\\EFI\\debian\\grubx64.efi", byteCount: 150_000)

    /// Everything valid, for both firmwares, in the recovery environment.
    static func survey(_ firmware: Firmware) -> SystemBootSurvey {
        var survey = SystemBootSurvey(
            disk: DiskIdentity(path: "/dev/nvme0n1", kernelName: "nvme0n1", transport: "nvme"),
            byteCount: 1201 * mebibyte, diskGUID: guid(0), volumes: volumes, firmware: firmware,
            access: .partitionNodes,
            esp: ESPSurvey(partition: 2, loaders: [loader], fallback: .copy(of: loader.path)), system: system(),
            nvram: NVRAMSurvey(
                entries: [
                    NVRAMEntry(number: "0003", label: "debian", partitionGUID: guid(2), path: loader.path)
                ], bootOrder: ["0003", "0000"], attachedPartitions: (1...4).map(guid)))
        survey.bios = GrubBIOSFinding(
            chain: .right, bootCode: .grub, biosBootPartition: 1, coreSector: 2048, coreSectorCount: 100,
            isInstalledCore: true, ownTools: ["grub-mkimage", "boot.img", "i386-pc"])
        survey.grub = grub
        survey.grubEFI = GrubEFIFinding(loaders: [
            .init(path: loader.path, searchedUUIDs: [rootUUID], isInstalled: true)
        ])
        return survey
    }

    /// An archive with one file, in the format newc (Linux, driver-api/early-userspace/buffer-format).
    static let initramfs: [UInt8] = ["init", "TRAILER!!!"].flatMap { (name: String) -> [UInt8] in
        let length = "0000000" + String(name.utf8.count + 1, radix: 16, uppercase: true)
        let fields = (0..<13).map { $0 == 11 ? length : "00000000" }.joined()
        let entry = Array("070701\(fields)\(name)\0".utf8)
        return entry + [UInt8](repeating: 0, count: (4 - entry.count % 4) % 4)
    }

    /// A system that started by BIOS, on a GPT with an empty EFI system partition.
    /// - Parameter platforms: what its own GRUB is for.
    static func formerBIOS(_ platforms: [String]) -> SystemBootSurvey {
        var survey = survey(.uefi)
        survey.bios = GrubBIOSFinding(chain: .absent)
        survey.esp = ESPSurvey(partition: 2)
        survey.grubEFI = GrubEFIFinding(ownTools: ["grub-mkimage", "x86_64-efi"])
        survey.grub?.platforms = platforms
        survey.nvram = NVRAMSurvey()
        survey.system = system("UUID=\(rootUUID) / ext4 errors=remount-ro 0 1\nUUID=\(swapUUID) none swap sw 0 0\n")
        return survey
    }

    static func medium(_ firmware: Firmware, touchNVRAM: Bool = true) -> BootRepairOptions {
        BootRepairOptions(touchNVRAM: touchNVRAM, firmware: firmware, inRecoveryEnvironment: true)
    }

    static func workstation(_ firmware: Firmware = .bios) -> BootRepairOptions {
        BootRepairOptions(firmware: firmware, inRecoveryEnvironment: false)
    }

    /// The checked parts of a boot.img.
    static func bootSector(coreSector: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 512)
        bytes.replaceSubrange(0..<3, with: [0xEB, 0x63, 0x90])
        bytes.setLittleEndian(coreSector, at: 0x5C)
        bytes.replaceSubrange(0x180..<0x196, with: Array("GRUB \0Geom\0Hard Disk\0R".utf8).prefix(22))
        bytes.replaceSubrange(510..<512, with: [0x55, 0xAA])
        return bytes
    }

    /// A core.img of `sectors` sectors that lies at `start`.
    static func core(sectors: Int, start: UInt64) -> [UInt8] {
        var bytes = (0..<sectors * 512).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
        for index in 0..<512 { bytes[index] = 0 }
        bytes.replaceSubrange(0x170..<0x190, with: Array("loading\0.\0\r\n\0Geom\0Read\0 Error\0\0\0".utf8).prefix(32))
        bytes.setLittleEndian(start + 1, at: 500)
        bytes.setLittleEndian(UInt16(sectors - 1), at: 508)
        bytes.setLittleEndian(0x820 as UInt16, at: 510)
        return bytes
    }
}

/// The findings of GRUB's rows of the table.
extension SystemBootSurvey {
    var bios: GrubBIOSFinding {
        get { findings[GrubBIOS()] ?? GrubBIOSFinding(chain: .absent) }
        set { findings[GrubBIOS()] = newValue }
    }
    var grub: GrubInstallation? {
        get { findings[GrubMenu()] }
        set { findings[GrubMenu()] = newValue }
    }
    var grubEFI: GrubEFIFinding? {
        get { findings[GrubEFI()] }
        set { findings[GrubEFI()] = newValue }
    }
}
