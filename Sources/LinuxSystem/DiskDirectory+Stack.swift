// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension DiskDirectory {
    /// The nodes whose bytes hold those of a node, itself included: the disk of a partition, the members of a mapping
    /// or RAID, the file or device below a loop device. Two partitions of one disk are not below each other.
    package func nodesBelow(including name: String) -> Set<String> {
        var found: Set<String> = []
        var pending = [name]
        // Upper bound on the nodes: a stack is a few devices high, and sysfs has no cycles.
        while let node = pending.popLast(), found.count < 4096 {
            guard found.insert(node).inserted else { continue }
            let disk = wholeDisk(of: node)
            pending += disk == node ? nodesBelow(node) : [disk]
        }
        return found
    }

    /// Whether two nodes share bytes: they are the same, or one lies on the other.
    package func overlap(_ one: String, _ other: String) -> Bool {
        nodesBelow(including: one).contains(other) || nodesBelow(including: other).contains(one)
    }
}
