// SPDX-License-Identifier: GPL-3.0-or-later

/// Folders and texts of other tools to begin with.
enum FolderSamples {
    private static func folder(_ files: [(String, String)]) -> [UInt8] {
        files.flatMap { name, text in [Judge.fileMark] + Array("\(name)\n\(text)".utf8) }
    }

    private static let gpt = """
        label: gpt
        label-id: 5EED0001-0000-4000-8000-000000000001
        device: /dev/sda
        unit: sectors
        first-lba: 34
        last-lba: 131038
        sector-size: 512

        /dev/sda1 : start=        2048, size=        2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=5EED0002-0000-4000-8000-000000000002, name="a\\x22b", attrs="LegacyBIOSBootable GUID:60,63"
        /dev/sda2 : start=        4096, size=       65536, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=5EED0003-0000-4000-8000-000000000003

        """
    private static let mbr = """
        label: dos
        label-id: 0x1234abcd
        /dev/sda1 : start=2048, size=2048, type=83, bootable
        /dev/sda2 : start=4096, size=20480, Id=5
        /dev/sda5 : start=6144, size=2048, type=82
        /dev/sda6 : start=10240, size=2048, type=83

        """
    static let group = """
        contents = "Text Format Volume Group"
        version = 1
        vg {
        id = "lfrDm6-fBj3-duBS-46QE-4VKZ-oPe1-QGOHWV"
        seqno = 9
        status = ["RESIZEABLE", "READ", "WRITE"]
        extent_size = 2048
        physical_volumes {
        pv0 {
        id = "abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF"
        status = ["ALLOCATABLE"]
        dev_size = 65536
        pe_start = 2048
        pe_count = 31
        }
        }
        logical_volumes {
        root {
        id = "000000-0000-0000-0000-0000-0000-000001"
        status = ["READ", "WRITE", "VISIBLE"]
        segment_count = 1
        segment1 {
        start_extent = 0
        extent_count = 4
        type = "striped"
        stripe_count = 1
        stripes = [ "pv0", 10 ]
        }
        }
        }
        }

        """
    static let clonezilla = [
        folder([
            ("disk", "sda\n"), ("parts", "sda1 sda2\n"), ("sda-pt.sf", gpt), ("sda1.ext4-ptcl-img.gz.aa", "x"),
            (
                "sda-pt.parted",
                "Model: ATA QEMU (scsi)\nDisk /dev/sda: 131072s\nSector size (logical/physical): 512B/4096B\n"
            ),
            ("lvm_vg_dev.list", "vg /dev/sda2 abcdef-ghij-klmn-opqr-stuv-wxyz-ABCDEF\n"), ("lvm_vg.conf", group),
            ("vg-root.ext4-ptcl-img.zst", "x"),
        ]),
        folder([
            ("parts", "sda1 sda5 sda6\n"), ("sda-pt.sf", mbr), ("sda1.dd-img", "x"),
            ("swappt-sda5.info", "UUID=\"5eed0004-0000-4000-8000-000000000004\"\nLABEL=\"swap\"\n"),
            ("luks-dev.list", "/dev/sda6 5eed0005-0000-4000-8000-000000000005 ocs_luks_A1b\n"),
            ("ocs_luks_A1b.ext4-ptcl-img.zst", "x"),
            ("blkdev.json", #"{"blockdevices":[{"name":"sda","size":67108864,"log-sec":512,"phy-sec":512}]}"#),
        ]),
    ]
    static let fog = [
        folder([
            ("d1.partitions", gpt), ("d1.mbr", ""), ("d1p1.img.000", "x"), ("d1p2.lvm.vgcfg", group),
            ("d1p2.root.img", "x"),
        ]),
        folder([
            ("d1.partitions", mbr), ("d1.minimum.partitions", mbr), ("d1.original.swapuuids", "5 x\n"),
            ("d1p1.img", "x"),
        ]),
    ]
    static let blockMap = """
        <?xml version="1.0" ?>
        <!-- a map -->
        <bmap version="2.0">
            <ImageSize> 1049088 </ImageSize>
            <BlockSize> 4096 </BlockSize>
            <BlocksCount> 257 </BlocksCount>
            <MappedBlocksCount> 4 </MappedBlocksCount>
            <BlockMap>
                <Range> 0-1 </Range>
                <Range> 5 </Range>
                <Range> 256 </Range>
            </BlockMap>
        </bmap>

        """
}
