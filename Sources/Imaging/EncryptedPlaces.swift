// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension RestorePlan {
    /// The partitions (`nil` for a bare disk) whose LUKS volumes change their length.
    package var encryptedNumbers: [Int?] {
        encryptedGrowths.map(\.number) + shrinks.filter { $0.filesystem.kind == .luks }.map(\.number)
    }

    /// The LUKS volumes in larger partitions, whose contents grow only with a key.
    package var encryptedGrowths: [Growth] { growths.filter { $0.filesystem.kind == .luks } }

    /// Removes the growth of LUKS contents without a key from the plan, and adds a note with the command for later.
    /// - Parameter locked: the partitions of such volumes (`nil` for a bare disk).
    package mutating func leaveLocked(_ locked: [Int?]) {
        warnings += notes(locked)
        growths.removeAll { $0.filesystem.kind == .luks && locked.contains($0.number) }
        for index in items.indices where locked.contains(items[index].number) { items[index].volumes = nil }
    }

    private func notes(_ locked: [Int?]) -> [Warning] {
        encryptedGrowths.filter { locked.contains($0.number) }.compactMap { growth in
            let inner = growth.filesystem.inner?.first?.filesystem
            // Contents that cannot grow need no command.
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
    /// The length of a LUKS2 volume's encrypted sectors, which may exceed a sector of the disk.
    private static func encryptedSectorByteCount(_ filesystem: FilesystemInfo?) -> UInt64? {
        guard let filesystem, filesystem.kind == .luks, let size = filesystem.sectorSize,
            [1024, 2048, 4096].contains(size)
        else { return nil }
        return UInt64(size)
    }

    /// Why a LUKS volume cannot be opened in a place of that length, as a sentence part: dm-crypt takes only whole
    /// encrypted sectors.
    static func obstacle(_ filesystem: FilesystemInfo?, in byteCount: UInt64) -> String? {
        guard let unit = encryptedSectorByteCount(filesystem), byteCount % unit != 0 else { return nil }
        return "LUKS with sectors of \(unit) bytes opens only in a place whose length is a multiple of that"
    }

    /// `layout` with each resized LUKS partition shortened to whole encrypted sectors.
    static func endingInEncryptedSectors(_ layout: DiskLayout, _ filesystems: [Int: FilesystemInfo]) -> DiskLayout {
        var layout = layout
        for index in layout.placements.indices
        where layout.placements[index].isGrown || layout.placements[index].isShrunk {
            let placement = layout.placements[index]
            guard let unit = encryptedSectorByteCount(filesystems[placement.number]) else { continue }
            let length = placement.to.byteCount / unit * unit
            // A shrunk place may be shortened: its least length is in whole encrypted sectors, too.
            guard placement.isShrunk || length >= placement.from.byteCount else { continue }
            layout.placements[index].to = placement.to.lowerBound..<placement.to.lowerBound + length
        }
        return layout
    }
}
