// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// The volume in a partclone image, front to back. Blocks are handed out after their checksum was verified; only a
/// checksum over more than `longestGroup` bytes is verified behind them.
final class PartcloneVolume: VolumeStream, @unchecked Sendable {
    // @unchecked: one thread at a time uses it.
    let content: PieceContent
    let header: PartcloneHeader
    private(set) var byteCount: UInt64
    private(set) var used: AllocationMap

    /// The ranges of the stored blocks.
    private let blocks: AllocationMap
    /// The first stored byte that is not handed out yet: its range, and the offset in it.
    private var range = 0
    private var offset: UInt64 = 0
    /// Verified blocks, and the part of them that was handed out.
    private var group: [UInt8] = []
    private var start = 0
    private var digest: PartcloneDigest
    /// Blocks that were read and digested; and of those, the ones since the last checksum.
    private var blocksRead: UInt64 = 0
    private var blocksInGroup: UInt64 = 0
    private let blocksInImage: UInt64
    private var ntfs: NTFSBackupSector?

    /// The longest group that is verified as a whole, in bytes: Clonezilla's have 10 MiB.
    private static let longestGroup: UInt64 = 16 << 20
    /// Blocks that are read at once otherwise, in bytes.
    private static let pieceByteCount: UInt64 = 4 << 20

    /// Reads the header, the bitmap and the first blocks.
    /// - Parameter room: the bytes of the volume's place.
    init(_ content: PieceContent, room: UInt64) throws(ImageError) {
        self.content = content
        header = try Self.readHeader(content)
        byteCount = header.deviceByteCount
        blocks = try PartcloneMapReader(header, content).read()
        used = blocks
        blocksInImage = blocks.usedByteCount / UInt64(header.blockSize)
        digest = PartcloneDigest(header)
        // The backup sector of NTFS is known from the first one.
        try loadGroup()
        if blocks.ranges.first?.lowerBound == 0 {
            ntfs = NTFSBackupSector(bootSector: group, header, room: room)
        }
        if let ntfs {
            byteCount = max(byteCount, ntfs.range.upperBound)
            used = AllocationMap(byteCount: byteCount, unsorted: blocks.ranges + [ntfs.range])
        }
    }

    static func readHeader(_ content: PieceContent) throws(ImageError) -> PartcloneHeader {
        let prefix = try content.next(PartcloneHeader.prefixByteCount)
        guard prefix.starts(with: PartcloneHeader.magic) else {
            throw .damaged(
                name: content.name, what: "it does not begin like an image of partclone", fileOffset: 0, disk: nil,
                partition: nil)
        }
        do {
            let version = try PartcloneHeader.version(prefix)
            let byteCount = PartcloneHeader.byteCounts[version] ?? prefix.count
            let rest = try content.next(byteCount - prefix.count)
            guard rest.count == byteCount - prefix.count else {
                throw ImageError.truncated(name: content.name, at: content.byteCount)
            }
            return try PartcloneHeader(prefix + rest)
        } catch let error as ImageError {
            throw error
        } catch {
            throw .unsupported(name: content.name, what: "\(error)")
        }
    }

    /// Whether the blocks have checksums.
    var hasChecksums: Bool { header.checksum != .none }

    /// Whether blocks are handed out only after a checksum over all of their bytes was found right.
    var verifiesBeforeUse: Bool { header.checksum != .firstByte && verifiesGroups }

    private var verifiesGroups: Bool {
        let (byteCount, overflow) = header.blocksPerChecksum.multipliedReportingOverflow(by: UInt64(header.blockSize))
        return header.checksum != .none && !overflow && byteCount <= Self.longestGroup
    }

    private func damaged(_ what: String) -> ImageError {
        .damaged(name: content.name, what: what, fileOffset: content.position, disk: nil, partition: nil)
    }

    /// Reads the next blocks, and verifies them.
    private func loadGroup() throws(ImageError) {
        let blockSize = UInt64(header.blockSize)
        let left = blocksInImage - blocksRead
        guard left > 0 else {
            (group, start) = ([], 0)
            return
        }
        let groupLeft = header.checksum == .none ? left : min(left, header.blocksPerChecksum - blocksInGroup)
        let count = verifiesGroups ? groupLeft : min(groupLeft, max(1, Self.pieceByteCount / blockSize))
        let byteCount = Int(count * blockSize)
        if group.count != byteCount { group = [UInt8](repeating: 0, count: byteCount) }
        start = 0
        let read = unsafe group.withUnsafeMutableBytes { group in
            Result { () throws(ImageError) in unsafe try content.read(into: group) }
        }
        guard try read.get() == byteCount else { throw .truncated(name: content.name, at: content.byteCount) }
        let before = digest
        unsafe group.withUnsafeBytes { unsafe digest.update($0) }
        blocksRead += count
        blocksInGroup += count
        guard header.checksum != .none, blocksInGroup == header.blocksPerChecksum || blocksRead == blocksInImage else {
            return
        }
        try verify(from: before)
        blocksInGroup = 0
        if header.startsOver { digest.reset() }
    }

    /// Compares the digest with the stored checksum that follows.
    private func verify(from before: PartcloneDigest) throws(ImageError) {
        let stored = try content.next(header.checksum.byteCount)
        guard stored.count == header.checksum.byteCount else {
            throw .truncated(name: content.name, at: content.byteCount)
        }
        guard stored != digest.stored else { return }
        if header.version == 1, blocksRead == 2 { try refuseWideChecksums(stored, before) }
        throw damaged(
            "the checksum of block \(blocksRead - blocksInGroup) to \(blocksRead) of its stored blocks does not fit")
    }

    /// Old 64-bit builds wrote eight bytes for each checksum of four, so that the second block begins four bytes later.
    private func refuseWideChecksums(_ stored: [UInt8], _ before: PartcloneDigest) throws(ImageError) {
        let shifted = Array(group.dropFirst(4)) + stored
        var digest = before
        unsafe shifted.withUnsafeBytes { unsafe digest.update($0) }
        guard try content.next(4) == digest.stored else { return }
        throw .unsupported(
            name: content.name,
            what: "an old 64-bit build of partclone wrote it, with checksums of 8 bytes, which later ones of partclone "
                + "cannot read either")
    }

    /// Hands out stored bytes, or passes over them.
    private func take(_ count: UInt64, into target: UnsafeMutableRawBufferPointer?) throws(ImageError) {
        var done: UInt64 = 0
        while done < count {
            if start == group.count {
                try loadGroup()
                // The map counts exactly the blocks that are read.
                guard !group.isEmpty else { throw .truncated(name: content.name, at: content.byteCount) }
            }
            let step = min(count - done, UInt64(group.count - start))
            if let target = unsafe target {
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[Int(done)...]).copyBytes(
                    from: group[start..<start + Int(step)])
            }
            start += Int(step)
            done += step
        }
    }

    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(ImageError) {
        unsafe target.initializeMemory(as: UInt8.self, repeating: 0)
        let end = offset + UInt64(target.count)
        while range < blocks.ranges.count, blocks.ranges[range].lowerBound < end {
            let place = blocks.ranges[range]
            let from = max(place.lowerBound + self.offset, min(offset, place.upperBound))
            let to = max(from, min(place.upperBound, end))
            unsafe try take(from - place.lowerBound - self.offset, into: nil)
            if to > from {
                let slice = Int(from - offset)..<Int(to - offset)
                unsafe try take(to - from, into: UnsafeMutableRawBufferPointer(rebasing: target[slice]))
            }
            self.offset = to - place.lowerBound
            guard to == place.upperBound else { break }
            range += 1
            self.offset = 0
        }
        if let ntfs { unsafe ntfs.put(into: target, at: offset) }
    }

    func finish() throws(ImageError) {
        // Everything is read and verified, also what the caller had no use for.
        while blocksRead < blocksInImage { try loadGroup() }
        guard try content.skip(1) == 0 else {
            throw damaged("other bytes follow its last block")
        }
        try content.confirmUnchanged()
    }
}
