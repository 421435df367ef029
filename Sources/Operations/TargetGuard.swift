// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Refuses targets that must not be overwritten.
package enum TargetGuard {
    /// The file in which the recovery environment names the disk that it booted from.
    package static let mediumPath: FilePath = "/run/reforge/medium"

    /// Refuses a target that is in use, that holds the image, or that is the boot medium.
    /// - Parameter cancellation: ends the wait for programs of an earlier restore.
    package static func refuseDanger(
        _ target: OpenedDisk, image: FilePath?, isTrial: Bool = false, _ events: any EventSink,
        _ cancellation: Cancellation
    ) throws {
        let path = target.identity.path
        try refuse(target.knownImage, at: path)
        try target.waitForAbandonedWork(isTrial: isTrial, events, cancellation)
        let uses = target.uses
        guard uses.isEmpty else { throw inUse(target, uses) }
        if let image, target.holds(image) || isFile(target, of: image) {
            throw JobFailure(.refused, "\(path) holds the image that is to be restored")
        }
        let directory = DiskDirectory()
        if let name = target.kernelName {
            let medium = (Files.text(mediumPath) ?? "").split(separator: "\n").map(String.init)
            guard !medium.contains(directory.wholeDisk(of: name)) else {
                throw JobFailure(.refused, "\(path) is the medium that this system was booted from")
            }
        }
    }

    /// Whether a file is in the folder that is to be restored, or is a piece of the image.
    private static func isFile(_ target: OpenedDisk, of image: FilePath) -> Bool {
        !target.device.isDevice
            && SourceFiles(of: image).contains(device: target.device.deviceNumber, inode: target.device.inodeNumber)
    }

    private static func inUse(_ target: OpenedDisk, _ uses: [DiskUse]) -> JobFailure {
        JobFailure(
            .refused,
            "\(target.identity.path) is in use: \(uses.map(\.description).joined(separator: "; ")). Unmount it, or stop what holds it, "
                + "and try again")
    }

    /// Refuses an image or a part of a repository in place of a disk: most likely a swapped command line.
    package static func refuse(_ known: KnownImage?, at path: String) throws {
        guard let known else { return }
        throw JobFailure(
            .refused,
            "\(path) is \(known.name), not a disk: are IMAGE and DISK swapped? "
                + (known.isVirtualDisk ? "reforge export writes an image as a virtual machine's disk. " : "")
                + "To overwrite it anyway, remove the file and make "
                + "a new one (truncate -s SIZE); on a device, clear its first MiB (dd if=/dev/zero of=DEVICE bs=1M count=1)"
        )
    }

    /// Checks, right before the first write, that the target is still the surveyed disk: its name may belong to another
    /// by now.
    package static func checkIdentity(_ target: OpenedDisk) throws {
        guard let kernelName = target.kernelName else {
            // A file has no O_EXCL: it may be attached and mounted while the user is asked.
            let uses = target.uses
            guard uses.isEmpty else { throw inUse(target, uses) }
            return
        }
        let now = DiskDirectory().identity(
            path: FilePath(target.identity.path), kernelName: kernelName, diskSequence: target.device.diskSequence)
        guard now == target.identity else {
            throw JobFailure(.refused, "\(target.identity.path) is another disk than a moment ago")
        }
    }
}
