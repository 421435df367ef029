// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Filesystems

/// What one fuzzer damages.
struct FuzzTarget {
    let name: String
    /// Sound disks: how each is made (once, then it is kept), and what is known of its bytes.
    var fixtures: [(name: String, make: () throws -> [UInt8], open: ([UInt8]) throws -> HostileFixture)] = []
    /// Where the input is no list of patches but the bytes themselves: what they become, and what to begin with.
    var text: (encode: ([UInt8]) throws -> [UInt8], seeds: () throws -> [[UInt8]])?
    /// Whether the parser reads through our reader, so that what it reads is known. Else the fixture's areas are damaged.
    var isTraced = true

    static var all: [FuzzTarget] {
        [
            FuzzTarget(
                name: "gpt",
                fixtures: [512, 4096].flatMap { size in
                    [false, true].map { last in
                        (
                            "\(size)-\(last ? "backup" : "primary")", { [] },
                            { _ in try .gpt(sectorSize: size, last: last) }
                        )
                    }
                } + [("grub", { [] }, { _ in try .gptWithGrub() })]),
            FuzzTarget(name: "mbr", fixtures: [("mbr", HostileFixture.makeMBR, { HostileFixture($0) })]),
            FuzzTarget(
                name: "ext",
                fixtures: [
                    "^metadata_csum,^uninit_bg,64bit", "metadata_csum,64bit",
                    "uninit_bg,^metadata_csum,^64bit,meta_bg,^resize_inode", "bigalloc,metadata_csum",
                    "mmp,^metadata_csum,^uninit_bg,sparse_super2,^resize_inode",
                ].enumerated().map { index, features in
                    ("\(index)", { try HostileFixture.makeExt(features) }, HostileFixture.ext)
                }),
            FuzzTarget(
                name: "fat",
                fixtures: [12, 16, 32].map { bits in
                    ("\(bits)", { try HostileFixture.makeFAT(bits: bits) }, { try .fat($0, bits: bits) })
                }),
            FuzzTarget(
                name: "esp",
                fixtures: [12, 16, 32].map { bits in
                    ("\(bits)", { try HostileFixture.makeFAT(bits: bits) }, { try .fat($0, bits: bits) })
                }),
            FuzzTarget(name: "exfat", fixtures: [("exfat", HostileFixture.makeExFAT, HostileFixture.exfat)]),
            FuzzTarget(name: "swap", fixtures: [("swap", HostileFixture.makeSwap, HostileFixture.swap)]),
            FuzzTarget(
                name: "ntfs",
                fixtures: [true, false].map { windows in
                    (windows ? "windows" : "linux", HostileFixture.makeNTFS, { try .ntfs($0, windowsLog: windows) })
                }),
            FuzzTarget(
                name: "bitlocker",
                fixtures: ["vista", "seven", "to-go"].map { ($0, { [] }, bitLocker($0)) }),
            FuzzTarget(
                name: "xfs",
                fixtures: (Tool.canMountXFS ? [4, 5, 6] : [4, 5]).map { variant in
                    ("\(variant)", { try HostileFixture.makeXFS(variant: variant) }, { try .xfs($0, variant: variant) })
                }),
            FuzzTarget(
                name: "btrfs",
                fixtures: [
                    ["--mixed", "-n", "4096"], ["--mixed", "-n", "4096", "--csum", "xxhash", "-O", "^skinny-metadata"],
                ].enumerated().map { index, options in
                    ("\(index)", { try HostileFixture.makeBtrfs(options) }, HostileFixture.btrfs)
                }),
            FuzzTarget(name: "f2fs", fixtures: [("f2fs", HostileFixture.makeF2FS, HostileFixture.f2fs)]),
            FuzzTarget(name: "lvm", fixtures: [("lvm", { [] }, { _ in .lvm().0 })]),
            FuzzTarget(
                name: "raid",
                fixtures: ["0.90", "1.0", "1.1", "1.2"].map { version in
                    (version, { [] }, { _ in .raid(version: version) })
                }),
            FuzzTarget(
                name: "luks",
                fixtures: [1, 2].map { version in
                    ("\(version)", { try HostileFixture.makeLUKS(version: version) }, HostileFixture.luks)
                }),
            FuzzTarget(name: "journal", fixtures: [("journal", { [] }, { _ in try .journal() })]),
            FuzzTarget(name: "agent", text: ({ $0 }, { try Samples.agentFrames })),
            FuzzTarget(name: "fstab", text: ({ $0 }, { [Array(Samples.fstab.utf8)] })),
            FuzzTarget(name: "grub", text: ({ $0 }, { [Array(Samples.grub.utf8)] })),
            FuzzTarget(
                name: "hive",
                fixtures: [
                    (
                        "hive", { WindowsFixture.system([("storahci", 0, nil), ("stornvme", 3, 3)]) },
                        HostileFixture.hive
                    )
                ], isTraced: false),
            FuzzTarget(
                name: "bcd",
                fixtures: [
                    (
                        "bcd",
                        {
                            let device = WindowsFixture.device(start: 1 << 20, signature: 7)
                            return WindowsFixture.store(
                                manager: WindowsFixture.device(partition: .zero, disk: .zero), system: device)
                        }, HostileFixture.hive
                    )
                ], isTraced: false),
            FuzzTarget(name: "nvram", text: ({ $0 }, { Samples.bootEntries.map { Array($0.utf8) } })),
            FuzzTarget(name: "initramfs", text: ({ $0 }, { BootFileSamples.initramfs })),
            FuzzTarget(name: "program", text: ({ $0 }, { [BootFileSamples.program] })),
            FuzzTarget(name: "entries", text: ({ $0 }, { Samples.loaderEntries.map { Array($0.utf8) } })),
            FuzzTarget(name: "modules", text: ({ $0 }, { [Array(BootFileSamples.modules.utf8)] })),
            FuzzTarget(name: "clonezilla", text: ({ $0 }, { FolderSamples.clonezilla })),
            FuzzTarget(name: "fog", text: ({ $0 }, { FolderSamples.fog })),
            FuzzTarget(name: "lvmtext", text: ({ $0 }, { [Array(FolderSamples.group.utf8)] })),
            FuzzTarget(name: "bmap", text: ({ $0 }, { [Array(FolderSamples.blockMap.utf8)] })),
            FuzzTarget(name: "partclone", text: (PartcloneSeeds.checked, PartcloneSeeds.all)),
            FuzzTarget(name: "manifest", text: (ImageFixtures.payload, ImageFixtures.headerSeeds)),
            FuzzTarget(
                name: "piece",
                text: ({ $0 }, { [[0] + [UInt8](repeating: 7, count: 32) + [1, 5, 2, 0xF9, 7], [2, 3, 4, 5, 6]] })),
            FuzzTarget(
                name: "nbdserver",
                text: (
                    { $0 },
                    {
                        [
                            WireBytes.handshake + WireBytes.request(0, byteCount: 4096)
                                + WireBytes.request(7, byteCount: 65536) + WireBytes.request(2)
                        ]
                    }
                )),
            FuzzTarget(
                name: "nbdclient",
                text: (
                    { $0 },
                    {
                        [
                            WireBytes.serverHandshake()
                                + WireBytes.chunk(1, WireBytes.data(at: 0, [UInt8](repeating: 7, count: 4096)))
                                + WireBytes.chunk(5, cookie: 2, WireBytes.numbers(5, 4096, 0, 61440, 3))
                        ]
                    }
                )),
            FuzzTarget(
                name: "virtual",
                fixtures: ["qcow2", "vmdk", "vhdx", "vdi", "vpc", "vmdk -o subformat=monolithicFlat"].map { options in
                    (options, { try HostileFixture.makeVirtual(options) }, { HostileFixture($0) })
                }),
            FuzzTarget(
                name: "image", fixtures: [("image", ImageFixtures.makeImage, ImageFixtures.image)], isTraced: false),
            FuzzTarget(
                name: "encrypted",
                fixtures: [("encrypted", ImageFixtures.makeEncrypted, ImageFixtures.encrypted)], isTraced: false),
            FuzzTarget(
                name: "repository",
                fixtures: [("repository", ImageFixtures.makeRepository, ImageFixtures.repository)], isTraced: false),
        ]
    }

    /// The three headers of BitLocker, with a block of metadata at 64 KiB.
    private static func bitLocker(_ kind: String) -> ([UInt8]) throws -> HostileFixture {
        { _ in
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            bytes.replaceSubrange(0..<3, with: [0xEB, kind == "vista" ? 0x52 : 0x58, 0x90])
            bytes.replaceSubrange(3..<11, with: Array((kind == "to-go" ? "MSWIN4.1" : "-FVE-FS-").utf8))
            bytes.setLittleEndian(65536 as UInt64, at: kind == "to-go" ? 440 : 176)
            bytes.replaceSubrange(65536..<65544, with: Array("-FVE-FS-".utf8))
            bytes.replaceSubrange(510..<512, with: [0x55, 0xAA])
            return HostileFixture(bytes)
        }
    }
}

extension HostileFixture {
    /// A disk that starts by GRUB: boot code, a BIOS boot partition with core.img, an ESP of nothing.
    static func gptWithGrub() throws -> HostileFixture {
        var fixture = try gpt(sectorSize: 512)
        fixture.bytes.replaceSubrange(0..<440, with: Fixture.bootSector(coreSector: 40)[..<440])
        fixture.bytes.replaceSubrange(40 * 512..<60 * 512, with: Fixture.core(sectors: 20, start: 40))
        for (index, type) in [PartitionType.biosBoot, PartitionType.efiSystem].enumerated() {
            fixture.bytes.replaceSubrange(
                1024 + index * 128..<1040 + index * 128, with: GUID(type)?.mixedEndianBytes ?? [])
        }
        var reader = fixture.reader
        try fixture.mend(&reader)
        fixture.bytes = try reader.current(0..<fixture.bytes.count)
        return fixture
    }

    /// A registry hive, whose checksum is corrected.
    static func hive(_ bytes: [UInt8]) throws -> HostileFixture {
        var fixture = HostileFixture(bytes, areas: [0..<512, 4096..<bytes.count])
        fixture.mend = { reader in
            var head = try reader.current(0..<512)
            HiveMaker.correct(&head)
            reader.patches.append((508, Array(head[508...])))
        }
        return fixture
    }

    /// A virtual machine's disk image of 1 MiB, as QEMU makes it.
    static func makeVirtual(_ options: String) throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 0)
        let words = options.split(separator: " ").map(String.init)
        try Tool.run(["qemu-img", "create", "-q", "-f"] + words + [image.string, "1M"])
        return try withExtendedLifetime(bench) { try Files.read(image) }
    }

    /// Primary partitions, and logical ones in an extended one.
    static func makeMBR() throws -> [UInt8] {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 8 << 20)
        try Tool.run(
            ["sfdisk", "-q", image.string],
            input: """
                label: dos
                label-id: 0x1234abcd
                start=63, size=1937, type=7, bootable
                start=2048, size=100, type=83
                start=3072, size=12000, type=f
                start=4096, size=512, type=82
                start=5120, size=512, type=83
                start=6144, size=512, type=8e
                start=8192, size=512, type=83
                start=15100, size=100, type=c

                """)
        return try BlockDevice(opening: image).readBytes(at: 0, count: 8 << 20)
    }

    static func journal() throws -> HostileFixture {
        var bytes = [UInt8](repeating: 0, count: 192 << 10)
        for (index, slot) in ImageFixtures.journalSlots().enumerated() {
            bytes.replaceSubrange((64 << 10) * (index + 1)..<(64 << 10) * (index + 1) + slot.count, with: slot)
        }
        var fixture = HostileFixture(bytes)
        fixture.mend = { reader in
            for start in [64 << 10, 128 << 10] {
                let sum = CRC32.iso.checksum(try reader.current(start..<start + 80))
                var encoded: [UInt8] = []
                encoded.appendLittleEndian(sum)
                reader.patches.append((start + 80, encoded))
            }
        }
        return fixture
    }
}

/// Texts to begin with.
enum Samples {
    static let fstab = """
        # / was on /dev/sda3 during installation
        /dev/sda3                                 /               ext4    errors=remount-ro 0       1
        \t/dev/sda4\tnone\tswap\tsw\t0\t0   # swap
        UUID=0d9a3c5e-0000-4000-8000-000000000001 /mnt/my\\040disk ext4 noauto,ro 0 0
        LABEL="debian" /again auto defaults
        /dev/disk/by-uuid/0d9a3c5e-0000-4000-8000-000000000002 none swap sw 0 0
        /dev/nvme0n1p1 /boot vfat umask=0077 0 1
        /dev/disk/by-id/ata-x-part2 /d xfs defaults 0 0
        tmpfs /tmp tmpfs defaults 0 0

        """
    static let grub = """
        search --no-floppy --fs-uuid --set=root 0d9a3c5e-0000-4000-8000-000000000001
        menuentry 'Debian' --class debian {
        \tsearch.fs_uuid 0d9a3c5e-0000-4000-8000-000000000001 root hd0,gpt1
        \tlinux /boot/vmlinuz root=UUID=0d9a3c5e-0000-4000-8000-000000000001 ro resume=LABEL=x quiet
        \tlinuxefi /vmlinuz "root=PARTUUID=01234567-89ab-cdef-0123-456789abcdef" resume=/dev/sda2
        \tlinux16 /v root=/dev/sda1
        }
        submenu 'x' { blscfg }

        """
    static let loaderEntries = [
        """
        title      Debian
        machine-id 5eed5eed5eed5eed5eed5eed5eed5eed
        linux      /5eed/6.1.0-18-amd64/linux
        initrd     /5eed/initrd.img
        options    root=PARTUUID=0d9a3c5e-0000-4000-8000-000000000001 rd.luks.name=0d9a=x resume="/dev/sda2" ro

        """,
        """
        default l0
        include linux.cfg
        label l0
          kernel ../vmlinuz
          append initrd=/a,/b root=/dev/sda1 cryptdevice=UUID=0d9a:root:discard

        """,
    ]

    static let bootEntries = [
        """
        BootCurrent: 0003
        BootOrder: 0003,0000,0001
        Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)
        Boot0001  Windows\tHD(1,GPT,01234567-89ab-cdef-0123-456789abcdef,0x800,0x32000)/File(\\EFI\\Boot\\bootmgfw.efi)WI
        Boot000A* debian\tHD(2,GPT,01234567-89ab-cdef-0123-456789abcdef,0x1000,0x20000)/\\EFI\\debian\\shimx64.efi0000

        """
    ]
}
