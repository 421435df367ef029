// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import Testing

@testable import ImageModel
@testable import Operations

/// What a plan knows, and the sentences that people and programs read: they stay as they are.
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
            "40 MiB behind the last partition, from byte 1048576 on, are not restored: the target has another length")
        check(
            .gapLeftOut(1 << 20..<4 << 20), "gap-left-out",
            "3 MiB between partitions, from byte 1048576 on, are not restored: a partition lies there now")
        check(
            .foreignTable(kind: "sun"), "foreign-table",
            "the partition table (sun) goes back as it was; it does not use what the target has more")
        check(
            .foreignTable(kind: nil), "foreign-table",
            "the partition table (unknown) goes back as it was; it does not use what the target has more")
        check(
            .startsByUEFIOnly(sectorSize: 4096), "starts-by-uefi-only",
            "BIOS does not start from disks with sectors of 4096 bytes: from here the system starts by UEFI only")
        check(
            .hybridMBRLeftOut(sectorSize: 512), "hybrid-mbr-left-out",
            "the partitions that are named a second time in the MBR (hybrid MBR) are left out there: what goes by it counts in sectors of 512 bytes"
        )
        check(
            .remakesFATInUse(partition: 1), "remakes-fat-in-use",
            "partition 1: its FAT was in use when it was captured; whether its files can all be put into a new one shows only once they are restored"
        )
        check(
            .sectorsUntested(partition: 2, filesystem: "zfs_member", reason: "its blocks are not known"),
            "sectors-untested",
            "partition 2 (zfs_member): its blocks are not known")
        check(
            .sectorsUntested(partition: nil, filesystem: nil, reason: "nobody knows what it holds"), "sectors-untested",
            "the disk (unknown): nobody knows what it holds")
        check(
            .keepsSizeInLUKS(partition: 4, reason: "it is striped"), "keeps-size-in-luks",
            "partition 4: what is inside of LUKS keeps its size: it is striped")
        check(
            .groupKeepsSize(partition: nil, reason: "vg is active"), "group-keeps-size",
            "the disk: its volume group keeps its size: vg is active")
        check(
            .locked(partition: 5, growCommand: "resize2fs NODE", growsWithKey: true), "locked",
            "partition 5: LUKS fills its larger place when it is opened; what is inside keeps its size. Once it is open: resize2fs /dev/mapper/NAME (--luks-key-file has that done by the restore)"
        )
        check(
            .locked(partition: nil, growCommand: nil, growsWithKey: false), "locked",
            "the disk: LUKS fills its larger place when it is opened; what is inside keeps its size. Once it is open: resize2fs /dev/mapper/NAME, pvresize /dev/mapper/NAME, or whatever makes larger what is inside"
        )
        check(
            .unreadable(.init(partition: 2, rangeCount: 1, byteCount: 4096, firstOffset: 512)), "unreadable",
            "partition 2 has holes: 4 KiB in 1 range, the first at byte 512 of the disk, could not be read when it was captured or copied, and is zeros here"
        )
        check(
            .unreadable(.init(partition: nil, rangeCount: 2, byteCount: 1000, firstOffset: 0)), "unreadable",
            "what lies outside every partition has holes: 1000 bytes in 2 ranges, the first at byte 0 of the disk, could not be read when it was captured or copied, and are zeros here"
        )
    }

    @Test func everyRemarkOfALayoutHasItsSentence() {
        check(
            .layout(.irregularTable(reason: "the partitions 1 and 2 overlap")), "irregular-table",
            "the partitions 1 and 2 overlap; it goes back as it was")
        check(
            .layout(.unusualTable), "unusual-table",
            "the partition table is unusual (it leaves no room for a record, or reaches further than it can count); it goes back as it was, and nothing grows"
        )
        check(
            .layout(.nothingCanGrow(.grow, freeByteCount: 2 << 30)), "nothing-can-grow",
            "the layout grow makes no partition larger: 2 GiB of the target stay free, for no partition holds what can follow"
        )
        check(
            .layout(.nothingGrows(.proportional, freeByteCount: 2 << 30, partition: 1, holding: "ext4")),
            "nothing-grows",
            "the layout proportional makes no partition larger: 2 GiB of the target stay free; --partition 1=rest gives them to partition 1 (ext4)"
        )
        check(
            .layout(.endUnused(byteCount: 1 << 40, sectorSize: 512, reach: 2 << 40)), "end-unused",
            "1 TiB at the end of the target stay unused: an MBR with sectors of 512 bytes reaches 2 TiB")
        check(
            .layout(.contentKeepsSize(partition: 3, holding: "Linux filesystem")), "content-keeps-size",
            "partition 3 gets larger, but what it holds (Linux filesystem) keeps its size")
        check(
            .layout(.existingIsLarger(partition: 2, byteCount: 5 << 20)), "existing-is-larger",
            "partition 2 of the target is 5 MiB larger than what is restored there, and that keeps its size")
        check(
            .layout(.typeStays(partition: 2, type: "Linux swap", captured: "Linux filesystem")), "type-stays",
            "partition 2 keeps its type in the target's table (Linux swap); in the image it has another (Linux filesystem)"
        )
    }
}
