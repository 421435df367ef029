// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension RestorePlan {
    /// The partitions (`nil` for a bare disk) whose LUKS volumes get another length.
    package var encryptedNumbers: [Int?] {
        encryptedGrowths.map(\.number) + shrinks.filter { $0.filesystem.kind == .luks }.map(\.number)
    }

    /// The LUKS volumes that get a larger place, whose insides only a key makes larger.
    package var encryptedGrowths: [Growth] { growths.filter { $0.filesystem.kind == .luks } }

    /// Has what is inside of LUKS volumes without a key keep its size, and says what a person is to do later.
    /// - Parameter locked: their partitions (`nil` for a bare disk).
    package mutating func leaveLocked(_ locked: [Int?]) {
        warnings += notes(locked)
        growths.removeAll { $0.filesystem.kind == .luks && locked.contains($0.number) }
        for index in items.indices where locked.contains(items[index].number) { items[index].volumes = nil }
    }

    private func notes(_ locked: [Int?]) -> [Warning] {
        encryptedGrowths.filter { locked.contains($0.number) }.compactMap { growth in
            let inner = growth.filesystem.inner?.first?.filesystem
            // What never grows needs no command.
            if let inner, inner.kind != .lvm, inner.resizeAbility.growObstacle != nil, inner.kind != .unknown {
                return nil
            }
            return .locked(
                partition: growth.number, growCommand: inner?.traits.growCommand,
                growsWithKey: EncryptedContents(growth.filesystem)?.growObstacle == nil)
        }
    }
}

extension RestorePlanner {
    /// The lengths of encrypted sectors of LUKS2 that are more than a sector of any disk may be.
    private static func encryptedSectorByteCount(_ filesystem: FilesystemInfo?) -> UInt64? {
        guard let filesystem, filesystem.kind == .luks, let size = filesystem.sectorSize,
            [1024, 2048, 4096].contains(size)
        else { return nil }
        return UInt64(size)
    }

    /// Why a LUKS volume could not be opened in a place of that length, as a sentence part: dm-crypt takes whole sectors
    /// of its own only.
    static func obstacle(_ filesystem: FilesystemInfo?, in byteCount: UInt64) -> String? {
        guard let unit = encryptedSectorByteCount(filesystem), byteCount % unit != 0 else { return nil }
        return "LUKS with sectors of \(unit) bytes opens only where its place is a multiple of that long"
    }

    /// The same layout with partitions of another length ending where their LUKS has whole sectors.
    static func endingInEncryptedSectors(_ layout: DiskLayout, _ filesystems: [Int: FilesystemInfo]) -> DiskLayout {
        var layout = layout
        for index in layout.placements.indices
        where layout.placements[index].isGrown || layout.placements[index].isShrunk {
            let placement = layout.placements[index]
            guard let unit = encryptedSectorByteCount(filesystems[placement.number]) else { continue }
            let length = placement.to.byteCount / unit * unit
            // The least length of a smaller place is one in whole sectors, too.
            guard placement.isShrunk || length >= placement.from.byteCount else { continue }
            layout.placements[index].to = placement.to.lowerBound..<placement.to.lowerBound + length
        }
        return layout
    }
}
