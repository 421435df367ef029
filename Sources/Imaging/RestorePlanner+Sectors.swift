// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageModel

// Targets whose logical sectors have another size than those of the captured disk.
extension RestorePlanner {
    static func isRemade(_ filesystem: FilesystemInfo, _ manifest: Manifest, _ geometry: DiskGeometry) -> Bool {
        let captured = manifest.geometry.logicalSectorSize
        return captured != geometry.logicalSectorSize
            && filesystem.mustBeRemade(forSectorsOf: geometry.logicalSectorSize, captured: captured)
    }

    /// Refuses contents that do not work with the target's sector size, all in one sentence.
    /// - Returns: the warnings for contents that work.
    static func sectorWarnings(
        _ manifest: Manifest, _ target: DiskIdentity, _ geometry: DiskGeometry, _ request: LayoutRequest,
        mustBoot: Bool, trustsUnknown: Bool
    ) throws(ImagingError) -> [RestorePlan.Warning] {
        let (old, new) = (manifest.geometry.logicalSectorSize, geometry.logicalSectorSize)
        guard old != new else { return [] }
        let sizes = "the image's disk has sectors of \(old) bytes and \(target.path) has sectors of \(new)"
        let other = "use a disk with sectors of \(old) bytes"
        guard [512, 4096].contains(old), [512, 4096].contains(new) else {
            throw .refused("\(sizes), and only 512 and 4096 are known: \(other)")
        }
        switch manifest.table.kind {
        case .gpt, .none: break
        case .mbr:
            throw .refused(
                "\(sizes): an MBR is not rewritten for another sector size, because the loaders that start from it count in its sectors; \(other)"
            )
        case .unknown:
            throw .refused("\(sizes), and its partition table is not understood: \(other)")
        }
        var warnings: [RestorePlan.Warning] = []
        if new != 512, manifest.boot.biosBootCode != nil {
            guard !mustBoot || !manifest.boot.efiLoaders.isEmpty else {
                throw .refused(
                    "\(sizes): BIOS does not start from disks with sectors of \(new) bytes, and the image's disk starts by BIOS only. "
                        + "\(capitalized(other)), or restore it as it is, without boot repair (--no-boot-repair)")
            }
            warnings.append(.startsByUEFIOnly(sectorSize: new))
        }
        if isHybrid(manifest) { warnings.append(.hybridMBRLeftOut(sectorSize: old)) }
        var (obstacles, doubts): ([String], [String]) = ([], [])
        var untested: [RestorePlan.Warning] = []
        for region in manifest.regions {
            if let number = region.partition, request.wishes[number] == .drop { continue }
            guard region.kind == .partition || manifest.table.kind == .none, !isOnlyRoom(region, manifest) else {
                continue
            }
            if let filesystem = region.filesystem, isRemade(filesystem, manifest, geometry), filesystem.isClean == false
            {
                warnings.append(.remakesFATInUse(partition: region.partition))
            }
            guard let obstacle = obstacle(region, manifest, geometry) else { continue }
            let name = region.partition.map { "partition \($0)" } ?? "the disk"
            let text = "\(name) (\(region.filesystem?.kindName ?? "unknown")): \(obstacle.reason)"
            if obstacle.isCertain {
                obstacles.append(text)
            } else {
                doubts.append(text)
                untested.append(
                    .sectorsUntested(
                        partition: region.partition, filesystem: region.filesystem?.kindName, reason: obstacle.reason))
            }
        }
        let drop = manifest.table.kind == .none ? "" : ", or leave it out (--partition N=drop)"
        guard obstacles.isEmpty else {
            throw .refused("\(sizes). \(obstacles.joined(separator: "; ")). \(capitalized(other))\(drop)")
        }
        guard doubts.isEmpty || trustsUnknown else {
            throw .refused(
                "\(sizes). \(doubts.joined(separator: "; ")). \(capitalized(other))\(drop); if you know that it works, restore it "
                    + "as it is (--trust-unknown)")
        }
        return warnings + untested
    }

    private static func capitalized(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst() }

    private static func isHybrid(_ manifest: Manifest) -> Bool {
        manifest.table.kind == .gpt
            && CapturedTable(
                head: Array(manifest.tableHead), tail: [], byteCount: manifest.geometry.byteCount,
                sectorSize: manifest.geometry.logicalSectorSize
            ).isHybrid
    }

    /// Whether the contents of a partition do not matter: it is unused, Microsoft's reserve, or code that only BIOS
    /// starts.
    private static func isOnlyRoom(_ region: Manifest.Region, _ manifest: Manifest) -> Bool {
        if region.usedByteCount == 0 { return true }
        guard let partition = manifest.table.partitions.first(where: { $0.number == region.partition }) else {
            return false
        }
        return [PartitionType.biosBoot, PartitionType.microsoftReserved].contains(partition.typeGUID.description)
    }

    private static func obstacle(
        _ region: Manifest.Region, _ manifest: Manifest, _ geometry: DiskGeometry
    ) -> SectorObstacle? {
        let (old, new) = (manifest.geometry.logicalSectorSize, geometry.logicalSectorSize)
        guard let filesystem = region.filesystem else {
            return SectorObstacle("its contents are unknown", isCertain: false)
        }
        guard region.partition != nil, isRemade(filesystem, manifest, geometry) else {
            return filesystem.sectorObstacle(onto: new, captured: old)
        }
        // A FAT that is merely marked as in use can be read; an inconsistent one cannot.
        let isReadable =
            filesystem.mapSource == .allocationStructures || filesystem.isClean == false
            || filesystem.wholeReason == FilesystemInfo.allSectorsReason
        return isReadable
            ? nil
            : SectorObstacle(
                "its FAT would be recreated with sectors of \(new) bytes, and it is damaged (\(filesystem.wholeReason ?? "unknown"))"
            )
    }

    // MARK: the layout

    /// The layout on the target, with space for recreated FATs.
    /// - Parameter abilities: the resize abilities of partitions, by number.
    static func layout(
        _ header: ImageHeader, _ geometry: DiskGeometry, _ request: LayoutRequest,
        _ abilities: [Int: PartitionAbility]
    ) throws(LayoutError) -> DiskLayout {
        let manifest = header.manifest
        var filesystems: [Int: FilesystemInfo] = [:]
        for region in manifest.regions { if let number = region.partition { filesystems[number] = region.filesystem } }
        func attempt(_ abilities: [Int: PartitionAbility]) throws(LayoutError) -> DiskLayout {
            endingInEncryptedSectors(
                try LayoutPlanner.plan(
                    manifest.table, source: manifest.geometry, filesystems: filesystems, abilities: abilities,
                    target: geometry, request: request), filesystems)
        }
        let fats = manifest.regions.filter { region in
            guard let number = region.partition, request.wishes[number] != .drop else { return false }
            return region.filesystem.map { isRemade($0, manifest, geometry) } ?? false
        }
        guard !fats.isEmpty else { return try attempt(abilities) }
        var (plain, roomy) = (abilities, abilities)
        for region in fats {
            guard let number = region.partition, let filesystem = region.filesystem else { continue }
            let demand = FATDemand(region, filesystem, sectorSize: geometry.logicalSectorSize)
            var ability = abilities[number] ?? PartitionAbility(leastByteCount: region.range.byteCount)
            ability.leastByteCount = demand.leastByteCount
            ability.reason =
                "its FAT is recreated with sectors of \(geometry.logicalSectorSize) bytes, and needs that size for its contents"
            // It fills a requested size.
            ability.canGrow = request.wishes[number] != nil
            plain[number] = ability
            if filesystem.kind == .fat32, request.policy != .keep, request.wishes[number] == nil {
                ability.leastByteCount = max(ability.leastByteCount, demand.leastByteCountOfFAT32)
            }
            roomy[number] = ability
        }
        // FAT32 if no other partition shrinks for it, else FAT16: UEFI reads both.
        let least = Result { () throws(LayoutError) in try attempt(plain) }
        var layout = try? least.get()
        if let generous = try? attempt(roomy) {
            let shrunk = Set(layout?.placements.filter(\.isShrunk).map(\.number) ?? [])
            if generous.placements.allSatisfy({ !$0.isShrunk || shrunk.contains($0.number) }) { layout = generous }
        }
        guard let layout else { return try least.get() }
        // A larger place may have larger clusters, and thus hold fewer files.
        for region in fats {
            guard let filesystem = region.filesystem,
                let placement = layout.placements.first(where: { $0.number == region.partition })
            else { continue }
            let demand = FATDemand(region, filesystem, sectorSize: geometry.logicalSectorSize)
            guard demand.isMet(by: placement.to.byteCount) else {
                throw .request(
                    "partition \(placement.number): a new FAT of \(ByteText.rounded(placement.to.byteCount)) has clusters so large that "
                        + "its contents may not fit; choose another size")
            }
        }
        return layout
    }
}

/// The space that a recreated FAT needs.
private struct FATDemand {
    let kind: FilesystemInfo.Kind
    let sectorSize: Int
    let usedByteCount: UInt64
    let oldClusterSize: UInt64
    let capturedByteCount: UInt64

    init(_ region: Manifest.Region, _ filesystem: FilesystemInfo, sectorSize: Int) {
        kind = filesystem.kind
        self.sectorSize = sectorSize
        usedByteCount = region.usedByteCount
        // The smallest, for an image that does not record it.
        oldClusterSize = UInt64(max(512, filesystem.blockSize ?? 512))
        capturedByteCount = region.range.byteCount
    }

    /// The least length, from the captured one upwards, that holds the contents in any distribution over files; in
    /// bytes.
    var leastByteCount: UInt64 { least { _ in true } }

    /// The least length that also makes it a FAT32, in bytes.
    var leastByteCountOfFAT32: UInt64 { least { $0.kind == .fat32 } }

    /// Whether a place of `byteCount` bytes holds the contents in any distribution over files.
    func isMet(by byteCount: UInt64) -> Bool { isMet(by: byteCount) { _ in true } }

    private func isMet(by byteCount: UInt64, _ isWanted: (FATLayout) -> Bool) -> Bool {
        guard let layout = FATLayout(volumeByteCount: byteCount, sectorSize: sectorSize, preferring: kind),
            isWanted(layout)
        else { return false }
        return layout.clusterCount
            >= FATLayout.mostClusters(
                of: layout.clusterSize, usedByteCount: usedByteCount, oldClusterSize: oldClusterSize)
    }

    private func least(_ isWanted: (FATLayout) -> Bool) -> UInt64 {
        var length = capturedByteCount
        // Steps of a 64th: 400 of them reach the 500-fold, and no file grows more than that.
        for _ in 0..<400 {
            if isMet(by: length, isWanted) { return length }
            let step = max(1 << 20, length / 64 / (1 << 20) * (1 << 20))
            length = (length / (1 << 20) * (1 << 20)).addingReportingOverflow(step).partialValue
        }
        return length
    }
}
