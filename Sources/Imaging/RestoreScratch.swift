// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
public import SystemPackage

/// A sparse file for what of filesystems that are made smaller lies behind their places, and for FATs that are made anew.
/// It goes with the object.
public final class RestoreScratch {
    /// The file.
    public let path: FilePath
    let writer: any BlockWriter
    private let own: FilePath
    private let lock: FolderLock?
    private static let folderName = "reforge-scratch"
    private static let fileName = "scratch"

    /// Makes a scratch in `folder` for a plan; `nil` where the plan needs none. What a restore that was killed left there
    /// goes.
    /// - Throws: `ImagingError.noRoom` where the folder has too little room.
    public init?(in folder: FilePath, for plan: RestorePlan) throws {
        let overhangs = plan.overhangs
        guard let last = overhangs.last else { return nil }
        let byteCount = last.scratchOffset + plan.restByteCount(of: last.byteCount, behind: last.place)
        let needed = plan.scratchRoom ?? 0
        Self.removeLeftovers(in: folder)
        if let free = Self.room(in: folder), free < needed {
            throw ImagingError.noRoom(
                "making filesystems fit needs \(ByteText.rounded(needed)) for a while, and \(folder) has "
                    + "\(ByteText.rounded(free)): name another folder with --scratch")
        }
        own = try Files.makeTemporaryFolder(Self.folderName, in: folder)
        path = own.appending(Self.fileName)
        lock = FolderLock(ifFree: own)
        do {
            let file = try OwnedDescriptor.open(
                path, .readWrite, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
            do { try Files.resize(file.raw, path.string, to: byteCount) } catch {
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
    private static func room(in folder: FilePath) -> UInt64? {
        let free = Files.freeByteCount(folder)
        guard Files.isInMemory(folder), let memory = SystemFacts.availableMemory() else { return free }
        return min(free ?? .max, memory - min(memory, memoryReserve))
    }

    /// A restore was measured with 99 MiB; `e2fsck` and `resize2fs` take some ten MiB a TiB.
    private static let memoryReserve: UInt64 = 192 << 20

    /// Removes the scratches of restores that ended without a chance to: no process has them locked.
    private static func removeLeftovers(in folder: FilePath) {
        for name in Files.names(in: folder) where name.hasPrefix("\(folderName).") {
            let left = folder.appending(name)
            // One that has no file yet is just being made.
            guard Files.exists(left.appending(fileName)), let lock = FolderLock(ifFree: left) else { continue }
            try? Files.remove(left.appending(fileName))
            try? Files.removeFolder(left)
            lock.release()
        }
    }
}

extension RestorePlan {
    /// How much room a folder for the scratch must have, in bytes; `nil` where there is no scratch.
    public var scratchRoom: UInt64? {
        guard !overhangs.isEmpty else { return nil }
        // Some MiB for what the tools write on the way, and for the filesystem that holds the file.
        let (room, overflow) = scratchByteCount.addingReportingOverflow(scratchByteCount / 16 + (32 << 20))
        return overflow ? .max : room
    }

    /// How much room the scratch has for what of `byteCount` bytes lies behind its place, in whole sectors of the target:
    /// device-mapper joins nothing else.
    func restByteCount(of byteCount: UInt64, behind place: ByteRange) -> UInt64 {
        let rest = byteCount - min(byteCount, place.byteCount)
        return rest.roundedUp(toMultipleOf: UInt64(geometry.logicalSectorSize)) ?? rest
    }

    /// Where the filesystems go that are longer than their places, or have none there because they are made anew, in the
    /// order of the addresses that `regionTargets` has for them.
    var overhangs: [TargetWriter.Overhang] {
        var base = TargetWriter.overhangBase
        var scratchOffset: UInt64 = 0
        let volumes =
            shrinks.map { ($0.fromByteCount, $0.range) }
            + remakes.map { ($0.fromByteCount, $0.range.lowerBound..<$0.range.lowerBound) }
        return volumes.map { byteCount, place in
            defer {
                base += byteCount
                scratchOffset += restByteCount(of: byteCount, behind: place)
            }
            return .init(base: base, byteCount: byteCount, place: place, scratchOffset: scratchOffset)
        }
    }
}
