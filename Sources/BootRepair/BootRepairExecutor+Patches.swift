// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

extension BootRepairExecutor {
    /// Opens the disk for writing, and checks that the path still names it: programs of the system may have run for
    /// minutes since the survey.
    func openForWriting() throws(SystemCallError) -> BlockDevice {
        let target = try BlockDevice(opening: disk.path, .exclusiveWrite, sectorSize: disk.logicalSectorSize)
        guard target.isDevice == disk.isDevice, target.deviceNumber == disk.deviceNumber,
            target.inodeNumber == disk.inodeNumber, target.byteCount == disk.byteCount,
            target.diskSequence == plan.disk.diskSequence
        else { throw SystemCallError("write", "\(disk.path), which is another disk now", .noSuchAddressOrDevice) }
        return target
    }

    /// Replaces bytes after checking that all of them, and the stamps of their files, are as surveyed.
    mutating func patch(_ patches: BytePatches) {
        do {
            let target = try openForWriting()
            // The nodes of partitions have caches of their own: what was written through them is on the disk, but not
            // in the cache of this node.
            try target.dropCache()
            if let problem = try Self.problem(patches, on: target) {
                pending.append("\(patches.failure): \(problem). Run boot repair again")
                return
            }
            for change in patches.changes {
                try target.writeBytes(change.to, at: change.offset)
                // A power cut leaves the first changes, never others: the next survey can tell what they meant.
                try target.flush()
            }
            try target.dropCache()
            for change in patches.changes
            where try target.readBytes(at: change.offset, count: change.to.count) != change.to {
                pending.append("\(patches.failure): the disk returned other bytes than were written")
                return
            }
            outcome.changed.append(patches.done)
        } catch {
            pending.append("\(patches.failure): \(error)")
        }
    }

    /// Why nothing may be written, as a sentence part; `nil` if everything is as surveyed.
    private static func problem(_ patches: BytePatches, on target: BlockDevice) throws(BlockIOError) -> String? {
        for change in patches.changes {
            guard change.from.count == change.to.count else { return "the plan would change the length of a file" }
            guard try target.readBytes(at: change.offset, count: change.from.count) == change.from else {
                return "the bytes at \(change.offset) of the disk have changed since the survey"
            }
        }
        for stamp in patches.unchanged
        where try target.readBytes(at: stamp.offset, count: stamp.bytes.count) != stamp.bytes {
            return "the file has changed since the survey"
        }
        return nil
    }
}
