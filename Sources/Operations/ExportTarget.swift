// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Filesystems
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// The name under which a disk image is to appear, and what it must not replace.
package struct ExportTarget {
    package let path: FilePath
    package let format: ExportFormat
    package let overwrites: Bool
    /// The options for `qemu-img`.
    let options: [String]

    package init(
        _ path: FilePath, _ format: ExportFormat, overwrites: Bool, for hypervisor: Hypervisor? = nil
    ) {
        (self.path, self.format, self.overwrites) = (path, format, overwrites)
        options = format.options(for: hypervisor)
    }

    /// Its folder.
    package var folder: FilePath {
        let folder = path.removingLastComponent()
        return folder.isEmpty ? "." : folder
    }

    /// Refuses a name that cannot be used, or a file that must not be replaced.
    package func refuse() throws {
        guard path.lastComponent != nil, try Files.status(folder)?.isFolder == true else {
            throw JobFailure(.cannotCreate, "\(path) cannot be made: \(folder) is no folder. Make it first (mkdir)")
        }
        guard Files.realFolder(folder) != nil else {
            throw JobFailure(
                .cannotCreate,
                "\(path) cannot be made: the name of its folder is not valid UTF-8. Choose another folder, or rename it"
            )
        }
        if format == .vmdk, path.string.utf8.contains(where: { $0 == UInt8(ascii: "\"") || $0 < 32 }) {
            throw JobFailure(
                .usage,
                "\(path) has a quote or a control character in its name, which a VMDK cannot state: choose another name"
            )
        }
        guard (try? Stat(path, followTargetSymlink: false)) != nil else { return }
        guard let status = try Files.status(path) else {
            throw JobFailure(.cannotCreate, "\(path) is a link to nothing: choose another name, or remove it")
        }
        guard status.isFile else {
            throw JobFailure(
                .cannotCreate,
                "\(path) is not a file, and a disk image is one: choose another name (`reforge restore` writes onto disks)"
            )
        }
        try refuseContents(status.byteCount)
        guard overwrites else {
            throw JobFailure(.cannotCreate, "\(path) exists: choose another name, or replace it with --overwrite")
        }
        try refuseUse(status.byteCount)
    }

    /// Refuses a file that holds something else than a disk of this format: most likely the image of a swapped command
    /// line.
    private func refuseContents(_ byteCount: UInt64) throws {
        guard byteCount > 0 else { return }
        let known = try KnownImage.identify(fileAt: path)
        if known?.name == format.knownName, try format != .raw || holdsRawDisk(byteCount) { return }
        let what = known.map { "is \($0.name)" } ?? (format == .raw ? "holds no disk that is known" : "exists")
        throw JobFailure(
            overwrites ? .refused : .cannotCreate,
            "\(path) \(what)\(format == .raw ? "" : " and no \(format.rawValue) disk"), so --overwrite does not replace it: "
                + "are IMAGE and OUT swapped? Choose another name, or remove the file first")
    }

    /// A raw disk has no mark. Without a partition table or a filesystem, a file that is not blank may be anything.
    private func holdsRawDisk(_ byteCount: UInt64) throws -> Bool {
        guard byteCount % 512 == 0 else { return false }
        let disk = try ResectoredReader.guessed(try OpenedDisk(path.string, .readOnly).device)
        return try PartitionTableReader.read(disk).kind != .unknown
    }

    /// Refuses a file that a virtual machine or a loop device uses.
    private func refuseUse(_ byteCount: UInt64) throws {
        guard byteCount > 0 else { return }
        let disk = try OpenedDisk(path.string, .readOnly)
        let uses = disk.uses
        guard uses.isEmpty else {
            throw JobFailure(
                .refused,
                "\(path) is in use: \(uses.map(\.description).joined(separator: "; ")). Stop what holds it, and try again"
            )
        }
        try disk.claimTarget(isTrial: true)
    }

    /// Refuses an output that is the source, or lies on it.
    package func refuse(source: String) throws {
        guard let disk = try? OpenedDisk(source, .readOnly), disk.holds(path) else { return }
        throw JobFailure(
            .refused,
            "\(path) is \(source) itself, or lies on it: writing it would change what is read. Choose a place on another disk"
        )
    }

    /// The likely reason of a failed write.
    /// - Parameter neededByteCount: the most that may be needed.
    package func explained(_ failure: JobFailure, neededByteCount: UInt64) -> JobFailure {
        let isFull = ["No space left on device", "(ENOSPC)", "Disk quota exceeded"].contains(
            where: failure.message.contains)
        guard isFull else { return failure }
        let free = Files.freeByteCount(folder).map { ", and \(ByteText.rounded($0)) are free there now" } ?? ""
        return JobFailure(
            .cannotCreate,
            "there is no space left in \(folder) for \(path): up to \(ByteText.rounded(neededByteCount)) are needed\(free). "
                + "Free some, or choose another folder")
    }
}
