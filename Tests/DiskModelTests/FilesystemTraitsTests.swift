// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import DiskModel

/// The single table of filesystem traits.
@Suite struct FilesystemTraitsTests {
    @Test func everyKindHasOneRow() {
        for kind in FilesystemInfo.Kind.allCases {
            let rows = FilesystemTraits.table.filter { $0.kinds.contains(kind) }
            #expect(rows.count == 1, "\(kind)")
        }
        let names = FilesystemTraits.table.flatMap { $0.names.union($0.kinds.map(\.rawValue)) }
        #expect(names.count == Set(names).count, "\(names.sorted())")
    }

    /// The whole table at once: a change of a row shows every dependent value.
    @Test func theTable() {
        func row(_ kind: FilesystemInfo.Kind) -> String {
            let traits = FilesystemTraits.of(kind, name: kind.rawValue)
            let mount = traits.mount.map { "\($0.type) \($0.readOnlyOptions)" } ?? "-"
            let boot = "\(traits.grubModule ?? "-") \(traits.mayHoldSystem ? "root" : "-")"
            let places = "\(traits.bootSectors.map { "\($0)" } ?? "-") \(traits.fileLookup.map { "\($0)" } ?? "-")"
            let size = "\(traits.shrink) \(traits.growsUnclean) \(traits.growsOnOtherSectors)"
            return "\(kind): \(mount) | \(boot) | \(size) | \(traits.sectors) | \(traits.olderLife) | \(places)"
        }
        let expected = """
            ext2: ext4  | ext2 root | byTool true true | blocks("blocks") | harmless | - debugfs
            ext3: ext4 noload | ext2 root | byTool true true | blocks("blocks") | harmless | - debugfs
            ext4: ext4 noload | ext2 root | byTool true true | blocks("blocks") | harmless | - debugfs
            fat12: vfat  | fat - | never false true | recreated | harmless | first -
            fat16: vfat  | fat - | never false true | recreated | harmless | first -
            fat32: vfat  | fat - | never false true | recreated | harmless | firstAndNamed -
            exfat: exfat  | - - | never false true | sameSectors | harmless | - -
            ntfs: - | - - | byTool false true | sameSectors | harmless | firstAndBehindLast ntfscluster
            xfs: xfs norecovery,nouuid | xfs root | never false true | ownSectors | newerLog | - xfsDebugger
            btrfs: btrfs rescue=nologreplay | btrfs root | byTool false true | ownSectors | harmless | - -
            f2fs: f2fs norecovery | f2fs root | never false false | blocks("blocks") | cleared | - -
            swap: - | - - | madeAgain false true | blocks("pages") | harmless | - -
            lvm: - | - - | byTool false true | extentsAndContents | harmless | - -
            luks: - | - - | byTool true true | contents | harmless | - -
            raid: - | - - | never false true | unknown | harmless | - -
            other: - | - - | never false true | unknown | harmless | - -
            unknown: - | - - | never false true | unknown | harmless | - -
            """
        let rows = FilesystemInfo.Kind.allCases.map(row)
        #expect(rows == expected.split(separator: "\n").map(String.init), "\(rows.joined(separator: "\n"))")
    }

    @Test func namesFindRows() {
        #expect(FilesystemTraits.named("vfat")?.mount?.type == "vfat")
        #expect(FilesystemTraits.named("LVM2_member")?.kinds == [.lvm])
        #expect(FilesystemTraits.named("iso9660")?.mount?.isWritable == false)
        #expect(FilesystemTraits.named("zfs_member") == nil)
        #expect(FilesystemTraits.of(.other, name: "jfs").grubModule == "jfs")
        #expect(FilesystemTraits.of(.other, name: "zfs_member").grubModule == nil)
    }

    /// A kind written by a later program, or swap of another byte order, under a name that has a reader here.
    @Test func aNameAloneGetsNothing() {
        let names = FilesystemInfo.Kind.allCases.map(\.rawValue) + ["vfat", "LVM2_member", "crypto_LUKS"]
        for name in names where name != "other" && name != "unknown" {
            var info = FilesystemInfo(kind: .other, kindName: name, blockSize: 4096, mapSource: .whole)
            info.byteCount = 1 << 30
            #expect(!info.resizeAbility.canGrow && !info.resizeAbility.canShrink, "\(name)")
            #expect(info.traits.mount == nil && info.traits.olderLife == .harmless, "\(name)")
            #expect(info.sectorObstacle(onto: 4096, captured: 512) != nil, "\(name)")
        }
    }

    @Test func aRowCanBeAdded() {
        // Tests share the table: another one adds "toyfs".
        var row = FilesystemTraits([], names: ["addedfs"])
        row.mount = FilesystemTraits.MountManner("addedfs", readOnlyOptions: "noreplay")
        row.sectors = .blocks("blocks")
        FilesystemTraits.added.register(row)
        let toy = FilesystemInfo(kind: .other, kindName: "addedfs", blockSize: 4096, mapSource: .allocationStructures)
        #expect(toy.traits.mount?.readOnlyOptions == "noreplay")
        #expect(toy.resizeAbility.canGrow && toy.sectorObstacle(onto: 4096, captured: 512) == nil)
    }
}
