// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// The files of a restored partition with lost contents, found by the filesystem's own tool. Nothing is written.
package struct LostFiles: Encodable, Equatable, Sendable {
    /// The partition; `nil` for a bare disk.
    package var partition: Int?
    /// The paths of the first files in the filesystem.
    package var files: [String]
    /// The number of further files.
    package var moreFiles: Int
    /// Sentences on files that the tool cannot determine.
    package var notes: [String]

    /// The limit of files that are named per partition.
    static let mostFiles = 100
    /// The limit of blocks that are looked up per partition: 256 MiB in blocks of 4 KiB.
    static let mostBlocks = 1 << 16
    /// The time limit of the tools for all partitions.
    static let mostSeconds = 180.0

    /// Finds the files of lost ranges.
    /// - Parameter disk: the target, with its filesystems in their places.
    package static func find(
        _ lost: [LostRange], _ plan: RestorePlan, _ header: ImageHeader, on disk: FilePath
    ) -> [LostFiles] {
        let deadline = SystemFacts.monotonicSeconds() + mostSeconds
        var result: [LostFiles] = []
        for (index, region) in header.manifest.regions.enumerated() where region.kind != .gap {
            let ranges = lost.filter { region.range.covers($0.captured) }
            guard !ranges.isEmpty, plan.destinations[index] != .skipped, let filesystem = region.filesystem else {
                continue
            }
            var files = LostFiles(partition: region.partition, files: [], moreFiles: 0, notes: [])
            defer { result.append(files) }
            guard case .disk(let start) = plan.destinations[index], ranges.allSatisfy({ $0.target != nil }) else {
                files.notes = ["its files cannot be named, as its filesystem was made smaller"]
                continue
            }
            let blocks = LostBlocks(
                ranges.map {
                    $0.captured.lowerBound - region.range.lowerBound..<$0.captured.upperBound - region.range.lowerBound
                }, blockByteCount: UInt64(max(512, filesystem.blockSize ?? 4096)), limit: UInt64(mostBlocks))
            do throws(SystemCallError) {
                let loop = try LoopDevice(
                    over: disk, range: start..<start + region.range.byteCount, readOnly: true,
                    sectorSize: plan.geometry.logicalSectorSize)
                let lookup = LostFileLookup(node: loop.path.string, blocks: blocks, deadline: deadline)
                files.take(try lookup.run(filesystem.traits.fileLookup))
                _ = consume loop
            } catch {
                files.notes = ["its files cannot be named: \(error)"]
            }
            if blocks.isCut {
                files.notes.append(
                    "only the files of the first \(ByteText.rounded(blocks.byteCount)) of lost data are named")
            }
        }
        return result
    }

    private mutating func take(_ found: LostFileLookup.Found) {
        files = Array(found.files.prefix(Self.mostFiles))
        moreFiles = found.files.count - files.count
        notes += found.notes
    }
}

/// Blocks of a filesystem, as ranges.
struct LostBlocks {
    let blockByteCount: UInt64
    /// Ascending ranges of block numbers.
    private(set) var ranges: [Range<UInt64>] = []
    /// Whether blocks beyond the limit were dropped.
    private(set) var isCut = false

    /// - Parameter ranges: bytes of the filesystem, ascending.
    init(_ ranges: [ByteRange], blockByteCount: UInt64, limit: UInt64) {
        self.blockByteCount = blockByteCount
        var count: UInt64 = 0
        for range in ranges {
            let first = max(range.lowerBound / blockByteCount, self.ranges.last?.upperBound ?? 0)
            let end = (range.upperBound + blockByteCount - 1) / blockByteCount
            guard first < end else { continue }
            guard count < limit else {
                isCut = true
                return
            }
            let taken = min(end - first, limit - count)
            isCut = taken < end - first
            count += taken
            if let last = self.ranges.last, last.upperBound == first {
                self.ranges[self.ranges.count - 1] = last.lowerBound..<first + taken
            } else {
                self.ranges.append(first..<first + taken)
            }
        }
    }

    /// The number of blocks.
    var count: Int { ranges.reduce(0) { $0 + $1.count } }
    /// Their length in bytes.
    var byteCount: UInt64 { UInt64(count) * blockByteCount }
}

/// Asks a filesystem's own tool for the files of blocks.
struct LostFileLookup {
    /// The answer of a tool.
    struct Found: Equatable {
        var files: [String] = []
        var notes: [String] = []
    }

    let node: String
    let blocks: LostBlocks
    /// By the monotonic clock, in seconds.
    let deadline: Double

    func run(_ tool: FilesystemTraits.FileLookup?) throws(SystemCallError) -> Found {
        switch tool {
        case .debugfs: try ext()
        case .ntfscluster: try ntfs()
        case .xfsDebugger: try xfs()
        case nil: Found(notes: ["no tool names the files of a filesystem of this kind that is not mounted"])
        }
    }

    /// The output of a tool; `nil`, with a note in `found`, if it is not installed or takes too long.
    private func output(_ arguments: [String], _ package: String, _ found: inout Found) throws(SystemCallError)
        -> String?
    {
        guard ChildProcess.canFind(arguments[0]) else {
            found.notes.append(
                "its files cannot be named: `\(arguments[0])` is not installed (Debian package \(package))")
            return nil
        }
        let left = deadline - SystemFacts.monotonicSeconds()
        let output = try ChildProcess.run(arguments, timeoutSeconds: max(1, left))
        guard case .exited = output.ending, left > 0 else {
            found.notes.append("not all of its files are named: `\(arguments[0])` took too long")
            return nil
        }
        return output.text
    }

    private static func structureNote(_ count: Int, of total: Int) -> [String] {
        count == 0
            ? []
            : [
                "\(count) of \(total) lost blocks are of no file that is left: structures of the filesystem, or files whose own "
                    + "entries are lost"
            ]
    }

    /// debugfs(8): `icheck` gives the inodes of blocks, `ncheck` the names of inodes. `-c` reads no bitmaps and writes
    /// nothing, `-n` accepts structures with wrong checksums.
    private func ext() throws(SystemCallError) -> Found {
        var found = Found()
        var inodes: [UInt64] = []
        var known: Set<UInt64> = []
        var unowned = 0
        for part in blocks.ranges.joined().pieces(of: 8000) {
            let request = "icheck " + part.map(String.init).joined(separator: " ")
            guard let text = try output(["debugfs", "-c", "-n", "-R", request, node], "e2fsprogs", &found) else {
                return found
            }
            let (owned, free) = Self.inodes(text)
            guard !owned.isEmpty || free > 0 else {
                found.notes.append("its files cannot be named: debugfs cannot open the intact rest of it")
                return found
            }
            unowned += free
            for inode in owned where known.insert(inode).inserted { inodes.append(inode) }
        }
        // Reserved inodes (ext4 documentation, "Special inodes") have no names; 2 is the root, 8 the journal.
        if known.contains(8) { found.notes.append("parts of its journal are lost") }
        if known.contains(where: { $0 <= 10 && $0 != 2 && $0 != 8 }) {
            found.notes.append("structures of the filesystem itself are lost")
        }
        let named = inodes.filter { $0 == 2 || $0 > 10 }
        for part in named.pieces(of: 8000) {
            let request = "ncheck " + part.map(String.init).joined(separator: " ")
            guard let text = try output(["debugfs", "-c", "-n", "-R", request, node], "e2fsprogs", &found) else {
                break
            }
            found.files += Self.names(text)
        }
        found.notes += Self.structureNote(unowned, of: blocks.count)
        return found
    }

    /// Lines of `icheck`: a block and its inode, or `<block not found>`.
    static func inodes(_ text: String) -> (owned: [UInt64], unowned: Int) {
        var owned: [UInt64] = []
        var unowned = 0
        for line in text.split(separator: "\n") {
            let words = line.split(separator: "\t", maxSplits: 1)
            guard words.count == 2, UInt64(words[0]) != nil else { continue }
            if let inode = UInt64(words[1]) { owned.append(inode) } else { unowned += 1 }
        }
        return (owned, unowned)
    }

    /// Lines of `ncheck`: an inode and its name, which starts with two slashes in the root.
    static func names(_ text: String) -> [String] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: "\t", maxSplits: 1)
            guard words.count == 2, UInt64(words[0]) != nil else { return nil }
            return words[1].hasPrefix("//") ? String(words[1].dropFirst()) : String(words[1])
        }
    }

    /// ntfscluster(8): `-c` lists the files of a range of clusters; the structures of an NTFS are files too. It reads
    /// the whole master file table for each range.
    private func ntfs() throws(SystemCallError) -> Found {
        var found = Found()
        let mostRanges = 64
        for range in blocks.ranges.prefix(mostRanges) {
            let clusters = "\(range.lowerBound)-\(range.upperBound - 1)"
            guard let text = try output(["ntfscluster", "-f", "-c", clusters, node], "ntfs-3g", &found) else { break }
            for name in Self.ntfsNames(text) where !found.files.contains(name) { found.files.append(name) }
        }
        if blocks.ranges.count > mostRanges {
            found.notes.append("only the files of the first \(mostRanges) lost ranges are named")
        }
        if found.files.isEmpty, found.notes.isEmpty { found.notes.append("ntfscluster finds no file there") }
        return found
    }

    /// Lines of ntfscluster: `Inode 65 /dir/file/$DATA`, the last part being the attribute.
    static func ntfsNames(_ text: String) -> [String] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", maxSplits: 2)
            guard words.count == 3, words[0] == "Inode", UInt64(words[1]) != nil else { return nil }
            let name = words[2]
            guard let end = name.lastIndex(of: "/"), end > name.startIndex else { return String(name) }
            return String(name[..<end])
        }
    }

    /// xfs_db(8): after `blockget`, `blockuse -n` lists the users of blocks from the current place on.
    private func xfs() throws(SystemCallError) -> Found {
        var found = Found()
        var arguments = ["xfs_db", "-r", "-c", "blockget -n"]
        for range in blocks.ranges.prefix(1000) {
            // `daddr` counts sectors of 512 bytes.
            arguments += ["-c", "daddr \(range.lowerBound * blocks.blockByteCount / 512)"]
            arguments += ["-c", "blockuse -n -c \(range.count)"]
        }
        guard let text = try output(arguments + [node], "xfsprogs", &found) else { return found }
        let (names, unowned) = Self.xfsNames(text)
        found.files = names
        if names.isEmpty, unowned == 0 {
            found.notes.append("its files cannot be named: xfs_db cannot read the intact rest of it")
        }
        found.notes += Self.structureNote(unowned, of: blocks.count)
        return found
    }

    /// Lines of `blockuse -n`: `block 24 (0/24) type data inode 132 dir/file`; without an inode for the filesystem's
    /// structures.
    static func xfsNames(_ text: String) -> (names: [String], unowned: Int) {
        var names: [String] = []
        var known: Set<String> = []
        var unowned = 0
        for line in text.split(separator: "\n") where line.hasPrefix("block ") {
            let words = line.split(separator: " ", maxSplits: 7)
            guard words.count == 8, words[5] == "inode" else {
                unowned += 1
                continue
            }
            let name = "/\(words[7])"
            if known.insert(name).inserted { names.append(name) }
        }
        return (names, unowned)
    }
}

extension Sequence {
    /// Consecutive elements in arrays of at most `count`.
    fileprivate func pieces(of count: Int) -> [[Element]] {
        var result: [[Element]] = []
        var piece: [Element] = []
        for element in self {
            piece.append(element)
            if piece.count == count {
                result.append(piece)
                piece = []
            }
        }
        return piece.isEmpty ? result : result + [piece]
    }
}
