// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import Testing

@testable import ImageModel
@testable import Operations

/// The codes and sentences of a plan's warnings.
@Suite struct RestoreWarningTests {
    private func check(_ warning: RestorePlan.Warning, _ code: String, _ sentence: String) {
        #expect(warning.code == code)
        #expect(warning.sentence == sentence)
    }

    @Test func everyWarningHasItsSentence() {
        check(
            .leftOut(partition: 3), "left-out",
            "partition 3 is left out, as asked for")
        check(
            .endLeftOut(1 << 20..<41 << 20), "end-left-out",
            "40 MiB behind the last partition, from byte 1048576 on, are not restored: the table or the length of the disk changes"
        )
        check(
            .gapLeftOut(1 << 20..<4 << 20), "gap-left-out",
            "3 MiB between partitions, from byte 1048576 on, are not restored: a partition lies there now")
        check(
            .foreignTable(kind: "sun"), "foreign-table",
            "the partition table (sun) is restored unchanged; it does not use additional space of the target")
        check(
            .foreignTable(kind: nil), "foreign-table",
            "the partition table (unknown) is restored unchanged; it does not use additional space of the target")
        check(
            .startsByUEFIOnly(sectorSize: 4096), "starts-by-uefi-only",
            "BIOS does not start from disks with sectors of 4096 bytes: from the target, the system starts by UEFI only"
        )
        check(
            .hybridMBRLeftOut(sectorSize: 512), "hybrid-mbr-left-out",
            "the partitions of the hybrid MBR are left out of the MBR: programs that use it count in sectors of 512 bytes"
        )
        check(
            .remakesFATInUse(partition: 1), "remakes-fat-in-use",
            "partition 1: its FAT was in use when it was captured; only the restore shows whether all its files can be copied into a new one"
        )
        check(
            .sectorsUntested(partition: 2, filesystem: "zfs_member", reason: "its blocks are not known"),
            "sectors-untested",
            "partition 2 (zfs_member): its blocks are not known")
        check(
            .sectorsUntested(partition: nil, filesystem: nil, reason: "its contents are unknown"), "sectors-untested",
            "the disk (unknown): its contents are unknown")
        check(
            .keepsSizeInLUKS(partition: 4, reason: "it is striped"), "keeps-size-in-luks",
            "partition 4: the contents of its LUKS volume keep their size: it is striped")
        check(
            .groupKeepsSize(partition: nil, reason: "vg is active"), "group-keeps-size",
            "the disk: its volume group keeps its size: vg is active")
        check(
            .locked(partition: 5, growCommand: "resize2fs NODE", growsWithKey: true), "locked",
            "partition 5: its LUKS volume grows when it is opened, but the contents keep their size. After opening it, run: resize2fs /dev/mapper/NAME (with --luks-key-file, the restore does this)"
        )
        check(
            .locked(partition: nil, growCommand: nil, growsWithKey: false), "locked",
            "the disk: its LUKS volume grows when it is opened, but the contents keep their size. After opening it, run: resize2fs /dev/mapper/NAME, pvresize /dev/mapper/NAME, or the command that grows its contents"
        )
        check(
            .unreadable(.init(partition: 2, rangeCount: 1, byteCount: 4096, firstOffset: 512)), "unreadable",
            "partition 2 has holes: 4 KiB in 1 range, the first at byte 512 of the disk, could not be read when it was captured or copied, and is zeros here"
        )
        check(
            .unreadable(.init(partition: nil, rangeCount: 2, byteCount: 1000, firstOffset: 0)), "unreadable",
            "the space outside of partitions has holes: 1000 bytes in 2 ranges, the first at byte 0 of the disk, could not be read when it was captured or copied, and are zeros here"
        )
    }

    @Test func everyRemarkOfALayoutHasItsSentence() {
        check(
            .layout(.irregularTable(reason: "the partitions 1 and 2 overlap")), "irregular-table",
            "the partitions 1 and 2 overlap; the partition table is restored unchanged")
        check(
            .layout(.unusualTable), "unusual-table",
            "the partition table is unusual (it leaves no space for a record, or exceeds what its fields can address); it is restored unchanged, and nothing grows"
        )
        check(
            .layout(.nothingCanGrow(.grow, freeByteCount: 2 << 30)), "nothing-can-grow",
            "the layout grow grows no partition: 2 GiB of the target stay free, because no partition has contents that can grow"
        )
        check(
            .layout(.nothingGrows(.proportional, freeByteCount: 2 << 30, partition: 1, holding: "ext4")),
            "nothing-grows",
            "the layout proportional grows no partition: 2 GiB of the target stay free; --partition 1=rest gives them to partition 1 (ext4)"
        )
        check(
            .layout(.endUnused(byteCount: 1 << 40, sectorSize: 512, reach: 2 << 40)), "end-unused",
            "1 TiB at the end of the target stay unused: an MBR with sectors of 512 bytes reaches 2 TiB")
        check(
            .layout(.contentKeepsSize(partition: 3, holding: "Linux filesystem")), "content-keeps-size",
            "partition 3 grows, but its contents (Linux filesystem) keep their size")
        check(
            .layout(.existingIsLarger(partition: 2, byteCount: 5 << 20)), "existing-is-larger",
            "partition 2 of the target is 5 MiB larger than the contents restored into it, which keep their size")
        check(
            .layout(.typeStays(partition: 2, type: "Linux swap", captured: "Linux filesystem")), "type-stays",
            "partition 2 keeps its type in the target's table (Linux swap); in the image it has another type (Linux filesystem)"
        )
    }
}
