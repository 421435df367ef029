// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// The disk of a virtual machine as the source of a capture: its file is what is locked and named, and its contents are
/// what is captured.
package struct VirtualSource {
    let disk: any DiskFile
    /// The disk with its sector size.
    let reader: ResectoredReader
    /// The image that an overlay lies over, its description and its names in a repository: the capture is of the same
    /// machine and disk.
    var origin: (manifest: Manifest, names: CapturedHost)?

    var geometry: DiskGeometry {
        DiskGeometry(
            byteCount: reader.byteCount, logicalSectorSize: reader.logicalSectorSize,
            physicalSectorSize: reader.logicalSectorSize)
    }

    /// - Returns: `nil` for a device, a raw image, or another file.
    static func open(_ job: CaptureJob, _ opened: OpenedDisk, _ keys: KeyRing) throws -> VirtualSource? {
        let path = FilePath(job.disk)
        if !opened.device.isDevice, !job.takesImageAsDisk, let record = try OverlayRecord.find(path) {
            try refuseOptions(job, "virtual machine's overlay")
            let disk = try OverlayDisk(path, record, keys)
            return VirtualSource(
                disk: disk, reader: ResectoredReader(disk, logicalSectorSize: disk.logicalSectorSize),
                origin: (disk.baseManifest, try disk.baseNames()))
        }
        guard !opened.device.isDevice, !job.takesImageAsDisk else { return nil }
        let contents = try FileContents.detect(path)
        if case .unknown = contents, let why = try DiskFormat.virtualContradiction(path) {
            throw JobFailure(
                .badImage, "\(path) is no disk: \(why). --as-disk captures it byte for byte, whatever it is")
        }
        guard case .disk(let format) = contents, format.isVirtual else { return nil }
        try refuseOptions(job, format.name)
        // A log is replayed on a copy.
        var request = DiskRequest(
            path, scratch: try RecordedDisk.folder(.usual, path), cancellation: keys.cancellation, log: keys.events.log)
        request.allowsBacking = keys.allowsBacking
        let disk = try format.open(request)
        try RecordedDisk.refuseImage(in: try DiskHeadReader(of: disk), path, name: format.name)
        let sectorSize =
            try job.sectorSize ?? disk.statedSectorSize ?? ResectoredReader.guessed(disk).logicalSectorSize
        return VirtualSource(disk: disk, reader: ResectoredReader(disk, logicalSectorSize: sectorSize))
    }

    private static func refuseOptions(_ job: CaptureJob, _ kind: String) throws {
        guard let option = job.rescues ? "--rescue" : job.usesSnapshots ? "--snapshot" : nil else { return }
        throw JobFailure(
            .usage, "\(option) is for disks of this machine, and \(job.disk) is a \(kind): leave \(option) out")
    }
}
