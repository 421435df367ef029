// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel

/// Plans a restore with a converted partition table: the captured table is replaced by the converted one, and the
/// layout is planned as if that had been captured. Pure.
struct FirmwarePlanner {
    private let header: ImageHeader
    private let goal: TableConversion.Goal
    private let geometry: DiskGeometry
    private let request: LayoutRequest
    /// The table as captured, or the GPT in place of an MBR.
    private let table: PartitionTable
    private let conversion: TableConversion

    private var manifest: Manifest { header.manifest }

    init(_ header: ImageHeader, _ goal: TableConversion.Goal, _ geometry: DiskGeometry, _ request: LayoutRequest) {
        self.header = header
        self.goal = goal
        self.geometry = geometry
        self.request = request
        let manifest = header.manifest
        guard manifest.table.kind == .mbr else {
            table = manifest.table
            conversion = TableConversion(goal: goal)
            return
        }
        let made = TableConverter.gpt(replacing: manifest.table, source: manifest.geometry) {
            Self.identity($0, manifest)
        }
        table = made.table
        conversion = TableConversion(
            goal: goal, diskGUID: made.table.diskGUID, entries: made.entries,
            extended: manifest.table.partitions.filter { !$0.isVolume }.map(\.range))
    }

    /// A GUID derived from the captured table and disk: a plan is the same whenever it is made, so that an interrupted
    /// restore goes on, and each restore of one disk gives its partitions the same GUIDs.
    /// - Parameter number: of the partition; 0 stands for the disk.
    static func identity(_ number: Int, _ manifest: Manifest) -> GUID {
        var bytes = Array("reforge: GPT for an MBR 1\n".utf8)
        // The signature and the entries, without boot code.
        bytes += Array(manifest.tableHead).dropFirst(440).prefix(72)
        for record in manifest.tableRecords ?? [] { bytes += Array(record.bytes).dropFirst(446).prefix(64) }
        bytes += Array("\(manifest.disk.serial ?? "") \(manifest.disk.wwn ?? "")\n".utf8)
        bytes.appendLittleEndian(UInt64(clamping: number))
        return guid(ofHash: ContentHash(of: bytes))
    }

    /// The GUID of the partition for the loader.
    static func addedIdentity(_ number: Int, _ manifest: Manifest) -> GUID {
        var bytes = Array("reforge: partition for a loader 1\n".utf8)
        bytes += manifest.table.diskGUID?.textOrderBytes ?? Array(Array(manifest.tableHead).dropFirst(440).prefix(72))
        bytes += Array("\(manifest.disk.serial ?? "") \(manifest.disk.wwn ?? "")\n".utf8)
        bytes.appendLittleEndian(UInt64(clamping: number))
        return guid(ofHash: ContentHash(of: bytes))
    }

    /// The first 16 bytes of a hash, as a GUID of version 8 (RFC 9562 §5.8: custom).
    private static func guid(ofHash hash: ContentHash) -> GUID {
        var bytes = Array(hash.bytes.prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        return (try? GUID(bigEndianBytes: bytes)) ?? .zero
    }

    /// The plan for the best place of the partition for the loader.
    /// - Parameter attempt: plans a restore of an image with another table.
    func plan(
        _ attempt: (ImageHeader, TableConversion) throws(ImagingError) -> RestorePlan
    ) throws(ImagingError) -> RestorePlan {
        // An MBR may have an EFI system partition without loaders, a GPT a BIOS boot partition without core.img.
        let wanted = goal == .uefi ? PartitionType.efiSystem : PartitionType.biosBoot
        let existing = table.partitions.first {
            $0.typeGUID.description == wanted && request.wishes[$0.number] != .drop && isUsable($0)
        }
        // Where the disk does not even fit without it, that is the reason.
        let without = try attempt(virtual(table), conversion)
        if existing != nil { return without }
        guard let number = TableConverter.freeNumber(in: table) else {
            throw .refused("the partition table has no free entry for \(name)")
        }
        let shrunk = Set(without.placements?.filter(\.isShrunk).map(\.number) ?? [])
        let candidates = TableConverter.candidates(
            for: goal, in: table, alignment: geometry.partitionAlignment, sectorSize: geometry.logicalSectorSize)
        var failure: ImagingError?
        for candidate in candidates {
            let partition = Partition(
                number: number, range: candidate.range, typeGUID: GUID(wanted) ?? .zero,
                guid: Self.addedIdentity(number, manifest), name: goal == .uefi ? "EFI system partition" : "BIOS boot")
            do throws(ImagingError) {
                let plan = try attempt(
                    virtual(TableConverter.adding(partition, to: table)), added(partition))
                let shrinksMore = plan.placements?.contains { $0.isShrunk && !shrunk.contains($0.number) } == true
                guard candidate.mayShrinkOthers || !shrinksMore else { continue }
                // In free space of the captured disk it must stay: elsewhere, another length may be better.
                let stays = plan.conversion?.added?.range == candidate.range
                guard !candidate.isFree || stays else { continue }
                return plan
            } catch { failure = error }
        }
        throw .refused(
            "there is no room for \(name) that a start by \(goal.name) needs: "
                + "\(failure.map { "\($0)" } ?? "other partitions would have to be made smaller"). A larger disk, a "
                + "smaller size of a partition (--partition N=SIZE), --layout grow, which makes filesystems smaller, or "
                + "leaving a partition out (--partition N=drop) makes room; --firmware keep leaves the table as it is")
    }

    private var name: String {
        goal == .uefi ? "the EFI system partition" : "the BIOS boot partition"
    }

    /// Whether an existing partition can hold the loader.
    private func isUsable(_ partition: Partition) -> Bool {
        guard goal == .uefi else { return partition.range.byteCount >= 400 << 10 }
        return manifest.regions.first { $0.partition == partition.number }?.filesystem?.isFAT == true
    }

    private func added(_ partition: Partition) -> TableConversion {
        var conversion = self.conversion
        conversion.added = partition
        return conversion
    }

    /// The image as if it had been captured with that table, for planning alone.
    private func virtual(_ table: PartitionTable) -> ImageHeader {
        var header = self.header
        header.manifest.table = table
        if conversion.replacesMBR {
            // The bytes of the MBR say nothing about this table, and its boot code starts nothing from it.
            header.manifest.tableHead.removeAll()
            header.manifest.tableRecords = nil
        }
        header.manifest.boot =
            goal == .uefi ? BootSurvey(efiLoaders: [#"\EFI\BOOT\BOOTX64.EFI"#]) : BootSurvey(biosBootCode: "GRUB")
        return header
    }
}
