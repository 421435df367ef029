// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// The places of a file's blocks: a tree of extents ("Extent Tree" §4.2.2), or blocks of block numbers
/// ("Direct/Indirect Block Addressing" §4.2.1). No number is checked against the filesystem's end.
enum ExtBlockTree {
    /// A block of the tree.
    struct Node {
        let block: UInt64
        /// The number of levels below it.
        let depth: Int
        let isExtents: Bool
    }

    /// The references of an inode or a node.
    struct Parts {
        /// Runs of content blocks, including preallocated ones.
        var runs: [Range<UInt64>] = []
        var nodes: [Node] = []
    }

    /// The kernel's limit (EXT4_MAX_EXTENT_DEPTH).
    private static let deepest = 5

    static func parts(of inode: ExtInode) -> Parts {
        let bytes = inode.blockBytes
        if inode.usesExtents {
            guard let depth = try? bytes.littleEndian(UInt16.self, at: 6), depth <= deepest else { return Parts() }
            return (try? extents(bytes, depth: Int(depth))) ?? Parts()
        }
        guard var parts = try? pointers(bytes, 0..<12, depth: 0) else { return Parts() }
        for level in 0..<3 {
            guard let block = try? bytes.littleEndian(UInt32.self, at: 48 + level * 4), block != 0 else { continue }
            parts.nodes.append(Node(block: UInt64(block), depth: level, isExtents: false))
        }
        return parts
    }

    /// Empty if the node is damaged: the kernel does not follow it either.
    static func parts(of bytes: [UInt8], _ node: Node) -> Parts {
        let parts =
            node.isExtents
            ? try? extents(bytes, depth: node.depth) : try? pointers(bytes, 0..<bytes.count / 4, depth: node.depth)
        return parts ?? Parts()
    }

    private static func extents(_ bytes: [UInt8], depth: Int) throws(ParsingError) -> Parts {
        var parts = Parts()
        let count = Int(try bytes.littleEndian(UInt16.self, at: 2))  // eh_entries
        guard try bytes.littleEndian(UInt16.self, at: 0) == 0xF30A,  // eh_magic
            count <= bytes.count / 12 - 1, Int(try bytes.littleEndian(UInt16.self, at: 6)) == depth  // eh_depth
        else { return parts }
        for place in stride(from: 12, to: 12 + count * 12, by: 12) {
            // ee_len, ee_start_hi, ee_start_lo in a leaf; ei_leaf_lo, ei_leaf_hi above.
            let high = UInt64(try bytes.littleEndian(UInt16.self, at: place + (depth == 0 ? 6 : 8)))
            let low = UInt64(try bytes.littleEndian(UInt32.self, at: place + (depth == 0 ? 8 : 4)))
            let block = high << 32 | low
            if depth > 0 {
                parts.nodes.append(Node(block: block, depth: depth - 1, isExtents: true))
            } else {
                let length = UInt64(try bytes.littleEndian(UInt16.self, at: place + 4))
                // A length above 32768 means preallocated and not written yet.
                parts.runs.append(block..<block + (length > 32768 ? length - 32768 : length))
            }
        }
        return parts
    }

    private static func pointers(_ bytes: [UInt8], _ indices: Range<Int>, depth: Int) throws(ParsingError) -> Parts {
        var parts = Parts()
        for index in indices {
            let block = UInt64(try bytes.littleEndian(UInt32.self, at: index * 4))
            // A hole.
            if block == 0 { continue }
            if depth > 0 {
                parts.nodes.append(Node(block: block, depth: depth - 1, isExtents: false))
            } else if let last = parts.runs.last, last.upperBound == block {
                parts.runs[parts.runs.count - 1] = last.lowerBound..<block + 1
            } else {
                parts.runs.append(block..<block + 1)
            }
        }
        return parts
    }
}
