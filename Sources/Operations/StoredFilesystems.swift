// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import Repository

/// Surveys the filesystems of a snapshot before it is published: its source was a stream, whose first bytes do not tell
/// the least sizes.
enum StoredFilesystems {
    static func measure(in writer: SnapshotWriter, _ events: any EventSink) throws {
        let index = try writer.storedIndex()
        let manifest = index.header.manifest
        let disk = CaptureDisk(index)
        events.log("surveying the stored filesystems, for their least sizes")
        let survey = try DiskSurveyor.survey(
            disk, identity: manifest.disk, geometry: manifest.geometry, trustMaps: true)
        if let failure = disk.failure { throw failure }
        var regions = manifest.regions
        for volume in survey.volumes {
            guard let number = regions.firstIndex(where: { $0.range == volume.range }),
                let known = regions[number].filesystem, known.kind == volume.filesystem.kind, known.isClean != false,
                known.wholeReason == nil || known.wholeReason == FilesystemInfo.allSectorsReason
            else { continue }
            regions[number].filesystem = volume.filesystem
        }
        writer.describe(regions)
    }
}
