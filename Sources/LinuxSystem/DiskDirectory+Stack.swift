// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

extension DiskDirectory {
    /// Bytes of a node, or of the file below a loop device, that another node shows.
    private struct Extent: Hashable {
        /// The kernel's name of the node, or the numbers of the file.
        var base: String
        var range: ByteRange
        /// Whether a mapping, RAID or filesystem decides where in the range the bytes are. Two of them on one base are
        /// apart: the kernel lets no mapping claim the same place twice.
        var isMapped: Bool
    }

    /// Whether two nodes share bytes: they are the same, or overlapping parts of the same, or one lies on the other.
    /// Two partitions of a disk and two volumes of a group share none.
    package func overlap(_ one: String, _ other: String) -> Bool {
        Self.overlap(extents(of: one), extents(of: other))
    }

    /// Whether the file at a path shares bytes with a node, because its filesystem lies there.
    package func overlap(file path: FilePath, _ node: String) -> Bool {
        let own = extents(of: node)
        return nodes(holding: path).contains { Self.overlap(extents(of: $0, isMapped: true), own) }
    }

    private static func overlap(_ one: Set<Extent>, _ other: Set<Extent>) -> Bool {
        one.contains { a in
            other.contains { b in
                a.base == b.base && a.range.overlaps(b.range) && !(a.isMapped && b.isMapped)
            }
        }
    }

    /// The bytes that a node shows, at each level of its stack: its own; of a partition those of the disk; of a loop
    /// device those of the file or device below; of a mapping or RAID its members.
    private func extents(of name: String, isMapped: Bool = false) -> Set<Extent> {
        let all: ByteRange = 0 ..< .max
        var found: Set<Extent> = []
        var pending = [Extent(base: name, range: all, isMapped: isMapped)]
        // Upper bound: a stack is a few devices high.
        while let extent = pending.popLast(), found.count < 4096 {
            guard found.insert(extent).inserted else { continue }
            let node = extent.base
            let disk = wholeDisk(of: node)
            if disk != node {
                let place = partitionNodes(of: disk).first { $0.name == node }?.range ?? all
                pending.append(Extent(base: disk, range: extent.range.within(place), isMapped: extent.isMapped))
                continue
            }
            if node.hasPrefix("loop"), let backing = backing(ofLoop: node) {
                let range = extent.range.within(place(ofLoop: node))
                if backing.isDevice, let below = kernelName(ofDevice: backing.device) {
                    pending.append(Extent(base: below, range: range, isMapped: extent.isMapped))
                    continue
                }
                found.insert(
                    Extent(base: "file \(backing.device):\(backing.inode)", range: range, isMapped: extent.isMapped))
            }
            pending += nodesBelow(node).map { Extent(base: $0, range: all, isMapped: true) }
        }
        return found
    }
}

extension ByteRange {
    /// This part of `place`, whose offsets count from its start.
    fileprivate func within(_ place: ByteRange) -> ByteRange {
        func moved(_ offset: UInt64) -> UInt64 {
            let (sum, overflow) = place.lowerBound.addingReportingOverflow(offset)
            return overflow ? place.upperBound : Swift.min(sum, place.upperBound)
        }
        return moved(lowerBound)..<moved(upperBound)
    }
}
