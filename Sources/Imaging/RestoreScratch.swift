// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Sparse file for the parts of shrinking filesystems that exceed their new partitions, and for FATs that are
/// recreated. It is removed with the object.
package final class RestoreScratch {
    /// The file.
    package let path: FilePath
    let writer: any BlockWriter
    private let own: FilePath
    private let lock: FolderLock?
    private static let folderName = "reforge-scratch"
    private static let fileName = "scratch"

    /// Makes a scratch in `folder` for a plan; `nil` if the plan needs none. Scratches of killed restores on this
    /// machine are removed first.
    /// - Parameter chunkByteCount: the image's chunk length, which determines the memory of a restore.
    /// - Throws: `ImagingError.noRoom` if the folder has too little space, or cannot hold a scratch.
    package init?(in folder: FilePath, for plan: RestorePlan, chunkByteCount: Int) throws {
        guard let last = plan.spills.last else { return nil }
        let byteCount = last.scratchOffset + plan.restByteCount(of: last.byteCount, behind: last.front)
        let needed = plan.scratchRoom ?? 0
        Self.removeLeftovers(in: folder)
        if let free = Self.room(in: folder, chunkByteCount), free < needed {
            let has = Files.isInMemory(folder) ? "lies in memory, which can spare" : "has"
            throw ImagingError.noRoom(
                "making filesystems fit needs \(ByteText.rounded(needed)) for a while, and \(folder) \(has) "
                    + "\(ByteText.rounded(free)): name another folder with --scratch (the data is not encrypted while it is there)"
            )
        }
        do { own = try Files.makeTemporaryFolder(Self.folderName, in: folder) } catch {
            throw ImagingError.noRoom("\(folder) cannot hold a scratch (\(error)): name another folder with --scratch")
        }
        path = own.appending(Self.fileName)
        lock = FolderLock(ifFree: own)
        do {
            do {
                let file = try OwnedDescriptor.open(
                    path, .readWrite, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
                try Files.resize(file.raw, path.string, to: byteCount)
            } catch {
                throw ImagingError.noRoom(
                    "\(folder) cannot hold a sparse file of \(ByteText.rounded(byteCount)) (\(error)): name another folder with "
                        + "--scratch")
            }
            writer = try BlockDevice(opening: path, .exclusiveWrite, sectorSize: plan.geometry.logicalSectorSize)
        } catch {
            try? Files.remove(path)
            try? Files.removeFolder(own)
            throw error
        }
    }

    deinit {
        try? Files.remove(path)
        try? Files.removeFolder(own)
    }

    /// The free space of a folder, in bytes. A tmpfs also counts memory that this program and the filesystems' tools
    /// need: beyond that, the kernel would kill one of them in the middle.
    private static func room(in folder: FilePath, _ chunkByteCount: Int) -> UInt64? {
        let free = Files.freeByteCount(folder)
        guard Files.isInMemory(folder), let memory = SystemFacts.availableMemory() else { return free }
        return min(free ?? .max, memory - min(memory, memoryReserve(chunkByteCount: chunkByteCount)))
    }

    /// The memory that a restore needs besides a scratch, in bytes.
    package static func memoryReserve(chunkByteCount: Int) -> UInt64 {
        // The program without its buffers, `e2fsck`, `resize2fs` and the like: some 10 MiB each.
        let buffers = ChunkBufferPool.count(workers: SystemFacts.processorCount(), chunkByteCount: chunkByteCount)
        return 100 << 20 + UInt64(buffers) * 2 * UInt64(chunkByteCount)
    }

    /// Removes the scratches of killed restores, which no process has locked. Only in a folder of this machine, where a
    /// lock holds for every possible user, and only folders that are certainly scratches.
    private static func removeLeftovers(in folder: FilePath) {
        guard Files.isOfThisMachine(folder) else { return }
        for name in Files.names(in: folder) where name.hasPrefix("\(folderName).") {
            guard name.utf8.count == folderName.utf8.count + 7, let lock = FolderLock(ifFree: folder.appending(name)),
                // A folder without its file is just being made.
                Files.names(in: lock.path) == [fileName],
                let file = try? Stat(lock.path.appending(fileName), followTargetSymlink: false),
                file.type == .regular, file.userID.rawValue == SystemFacts.userID
            else { continue }
            try? Files.remove(lock.path.appending(fileName))
            try? Files.removeFolder(folder.appending(name))
            lock.release()
        }
    }
}

extension RestorePlan {
    /// The space that a folder for the scratch must have, in bytes; `nil` without a scratch.
    package var scratchRoom: UInt64? {
        guard !spills.isEmpty else { return nil }
        // Some MiB more for intermediate writes of the tools, and for the filesystem that holds the file.
        let (room, overflow) = scratchByteCount.addingReportingOverflow(scratchByteCount / 16 + (32 << 20))
        return overflow ? .max : room
    }
}
