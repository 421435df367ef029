// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Sparse file for the parts of shrinking filesystems that exceed their new partitions, and for FATs that are made again. It
/// goes with the object.
package final class RestoreScratch {
    /// The file.
    package let path: FilePath
    let writer: any BlockWriter
    private let own: FilePath
    private let lock: FolderLock?
    private static let folderName = "reforge-scratch"
    private static let fileName = "scratch"

    /// Makes a scratch in `folder` for a plan; `nil` where the plan needs none. What a restore of this machine that was
    /// killed left there goes.
    /// - Parameter chunkByteCount: the image's, which tells how much memory a restore takes.
    /// - Throws: `ImagingError.noRoom` where the folder has too little room, or can hold none.
    package init?(in folder: FilePath, for plan: RestorePlan, chunkByteCount: Int) throws {
        guard let last = plan.spills.last else { return nil }
        let byteCount = last.scratchOffset + plan.restByteCount(of: last.byteCount, behind: last.front)
        let needed = plan.scratchRoom ?? 0
        Self.removeLeftovers(in: folder)
        if let free = Self.room(in: folder, chunkByteCount), free < needed {
            let has = Files.isInMemory(folder) ? "lies in memory, which can spare" : "has"
            throw ImagingError.noRoom(
                "making filesystems fit needs \(ByteText.rounded(needed)) for a while, and \(folder) \(has) "
                    + "\(ByteText.rounded(free)): name another folder with --scratch (what lies there for that while is not encrypted)"
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

    /// What a folder has room for, in bytes. A tmpfs counts memory as its own that this program and the filesystems' tools
    /// need: behind that, the kernel would kill one of them in the middle.
    private static func room(in folder: FilePath, _ chunkByteCount: Int) -> UInt64? {
        let free = Files.freeByteCount(folder)
        guard Files.isInMemory(folder), let memory = SystemFacts.availableMemory() else { return free }
        // The program without its buffers, `e2fsck`, `resize2fs` and the like: some ten MiB each.
        let buffers = ChunkBufferPool.count(workers: SystemFacts.processorCount(), chunkByteCount: chunkByteCount)
        let reserve = 100 << 20 + UInt64(buffers) * 2 * UInt64(chunkByteCount)
        return min(free ?? .max, memory - min(memory, reserve))
    }

    /// Removes the scratches of restores that ended without a chance to: no process has them locked. Only where a lock
    /// holds for all who could have one, and only what is one beyond doubt.
    private static func removeLeftovers(in folder: FilePath) {
        guard Files.isOfThisMachine(folder) else { return }
        for name in Files.names(in: folder) where name.hasPrefix("\(folderName).") {
            guard name.utf8.count == folderName.utf8.count + 7, let lock = FolderLock(ifFree: folder.appending(name)),
                // One that has no file yet is just being made.
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
    /// How much room a folder for the scratch must have, in bytes; `nil` where there is no scratch.
    package var scratchRoom: UInt64? {
        guard !spills.isEmpty else { return nil }
        // Some MiB for what the tools write on the way, and for the filesystem that holds the file.
        let (room, overflow) = scratchByteCount.addingReportingOverflow(scratchByteCount / 16 + (32 << 20))
        return overflow ? .max : room
    }
}
