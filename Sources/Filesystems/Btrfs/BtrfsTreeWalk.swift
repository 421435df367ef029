// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Reads tree blocks by logical address and checks them.
struct BtrfsBlockReader {
    let volume: any BlockReader
    let superblock: BtrfsSuperblock
    let checksum: BtrfsChecksum
    var chunks: BtrfsChunkMap
    /// The UUID in all tree blocks: known once the first was read.
    var chunkTreeUUID: [UInt8]?

    /// The block that `expected` describes, from the first valid copy.
    /// - Throws: the problem of the last copy where none is valid.
    func block(_ expected: BtrfsTreeBlock.Expectation) throws(FilesystemError) -> BtrfsTreeBlock {
        let byteCount = Int(superblock.nodeSize)
        guard expected.byteNumber % UInt64(superblock.sectorSize) == 0,
            let range = ByteRange(offset: expected.byteNumber, byteCount: UInt64(byteCount))
        else { throw .damaged("the address of a tree block is not valid") }
        var problem = FilesystemError.damaged("a tree block at \(expected.byteNumber) lies in no chunk")
        for place in chunks.places(of: range) {
            do throws(FilesystemError) {
                let bytes = try FilesystemError.reading { () throws(BlockIOError) in
                    try volume.readBytes(at: place.lowerBound, count: byteCount)
                }
                guard checksum.isRight(bytes) else {
                    throw .damaged("the checksum of its tree block at \(expected.byteNumber) is wrong")
                }
                let block = try FilesystemError.parsing { () throws(ParsingError) in
                    try BtrfsTreeBlock(bytes, expected, metadataUUID: superblock.metadataUUID)
                }
                guard chunkTreeUUID == nil || block.chunkTreeUUID == chunkTreeUUID else {
                    throw .damaged("its tree block at \(expected.byteNumber) belongs to another filesystem")
                }
                return block
            } catch {
                // A failed read takes precedence over damage: the block may be valid on the disk.
                if case .io = problem {} else { problem = error }
            }
        }
        throw problem
    }
}

/// All leaves of one tree, in ascending order of their keys.
///
/// The keys of every child must be between its pointer's key and the next one's, and a child is never empty: so no
/// block can occur twice, and a chain of pointers cannot cycle.
struct BtrfsTreeWalk {
    private struct Step {
        let node: BtrfsTreeBlock
        var index = 0
        /// The key before which all keys below must end.
        let end: BtrfsKey?
    }

    private let reader: BtrfsBlockReader
    private let root: BtrfsTreeBlock.Expectation
    private var steps: [Step] = []
    private var isStarted = false
    private var budget: UInt64
    /// The logical addresses of the blocks read by the last call of `next`.
    private(set) var visited: [UInt64] = []

    init(_ reader: BtrfsBlockReader, root: BtrfsTreeBlock.Expectation) {
        self.reader = reader
        self.root = root
        budget = reader.superblock.device.byteCount / UInt64(reader.superblock.nodeSize)
    }

    /// The next leaf; `nil` after the last.
    mutating func next() throws(FilesystemError) -> BtrfsTreeBlock? {
        visited.removeAll(keepingCapacity: true)
        if !isStarted {
            isStarted = true
            let block = try read(root)
            guard block.level > 0 else { return block }
            steps.append(Step(node: block, end: nil))
        }
        while let step = steps.last {
            guard step.index < step.node.pointers.count else {
                steps.removeLast()
                continue
            }
            steps[steps.count - 1].index += 1
            let pointer = step.node.pointers[step.index]
            let end = step.index + 1 < step.node.pointers.count ? step.node.pointers[step.index + 1].key : step.end
            let child = try read(
                BtrfsTreeBlock.Expectation(
                    byteNumber: pointer.byteNumber, generation: pointer.generation, level: step.node.level - 1,
                    owner: root.owner))
            guard child.firstKey == pointer.key, let last = child.lastKey, end.map({ last < $0 }) ?? true else {
                throw .damaged("its tree block at \(pointer.byteNumber) is not where its keys belong")
            }
            guard child.level > 0 else { return child }
            steps.append(Step(node: child, end: end))
        }
        return nil
    }

    private mutating func read(_ expected: BtrfsTreeBlock.Expectation) throws(FilesystemError) -> BtrfsTreeBlock {
        guard budget > 0, expected.generation ?? 0 <= reader.superblock.generation else {
            throw .damaged("its trees are larger or newer than they can be")
        }
        budget -= 1
        visited.append(expected.byteNumber)
        return try reader.block(expected)
    }
}
