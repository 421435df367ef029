// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The result of a capture.
package struct CaptureReport: Encodable {
    /// A partition of the captured disk.
    package struct Partition: Encodable {
        package var number: Int?
        package var filesystem: String
        package var byteCount: UInt64
        package var usedByteCount: UInt64
        package var mapSource: FilesystemInfo.MapSource
        package var wholeReason: String?
    }
    package let schema = 1
    package var image: String
    package var imageID: String
    package var imageUUID: String
    package var diskByteCount: UInt64
    package var usedByteCount: UInt64
    package var imageByteCount: UInt64
    package var seconds: Double
    package var partitions: [Partition]
    package var warnings: [String]
    package var unreadable: [ByteRange]
    package var host: String?
    package var readByteCount: UInt64
    package var newByteCount: UInt64
    package var deduplicatedByteCount: UInt64
    package var storedByteCount: UInt64

    /// The exit status: an image with holes is complete, but a part of the disk is in none.
    package var status: ExitStatus { unreadable.isEmpty ? .done : .ioError }

    /// What could not be read, and what to do; `nil` if everything was read.
    /// - Parameter disk: the captured disk.
    package func lossSentence(_ disk: String) -> String? {
        guard !unreadable.isEmpty else { return nil }
        let amount = ByteText.exact(unreadable.reduce(0) { $0 + $1.byteCount })
        let name = host != nil ? "the snapshot" : image == "-" ? "the image" : image
        return "\(disk) could not be read everywhere: \(name) has all data that could be read, and records \(amount) "
            + "as unreadable, which a restore fills with zeros. Keep it, and replace the disk"
    }

    init(
        _ image: String, _ manifest: Manifest, _ outcome: CaptureExecutor.Outcome, host: String?, seconds: Double
    ) {
        self.image = image
        imageID = outcome.summary.id.description
        imageUUID = "\(manifest.imageUUID)"
        diskByteCount = manifest.geometry.byteCount
        usedByteCount = manifest.usedByteCount
        imageByteCount = outcome.summary.storedByteCount
        self.seconds = seconds
        partitions = manifest.regions.filter { $0.kind != .gap }.map {
            Partition(
                number: $0.partition, filesystem: $0.filesystem?.kindName ?? "unknown", byteCount: $0.range.byteCount,
                usedByteCount: $0.usedByteCount, mapSource: $0.filesystem?.mapSource ?? .whole,
                wholeReason: $0.filesystem?.wholeReason)
        }
        warnings = manifest.warnings + manifest.unreadableTexts(outcome.unreadable)
        unreadable = outcome.unreadable
        self.host = host
        readByteCount = outcome.readByteCount
        newByteCount = outcome.summary.newByteCount
        deduplicatedByteCount = outcome.summary.deduplicatedByteCount
        storedByteCount = outcome.summary.storedByteCount
    }
}
