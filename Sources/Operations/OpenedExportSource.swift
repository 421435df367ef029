// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskImages
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// The source of an export: what is known of it before anything is written, and how it is read.
struct OpenedExportSource {
    enum Access {
        /// Copied byte for byte.
        case served(ServedSource)
        /// Opened by a restore, under this name.
        case restored(exact: String)
    }

    let manifest: Manifest
    let imageID: ContentHash?
    /// The ranges that the capture could not read.
    let unreadable: [ByteRange]
    let access: Access
    /// Keeps a snapshot until the restore has opened it.
    private let image: OpenedImage?

    init(_ job: ExportJob, _ keys: KeyRing) throws {
        let scratch = job.scratch.map { DiskScratchChoice.folder(FilePath($0)) } ?? .usual
        // A damaged image can be restored where it cannot be served.
        if job.isRestored, try Self.isRecording(job.image) {
            let image = try OpenedImage.open(job.image, keys, salvages: job.salvages, scratch: scratch)
            manifest = image.reader.header.manifest
            imageID = image.ending?.id
            unreadable = image.ending?.lateFacts.unreadable ?? []
            access = .restored(exact: image.exactText ?? job.image)
            self.image = image
            return
        }
        let served = try ServedSource.open(job.image, keys, scratch: scratch)
        manifest = served.header.manifest
        imageID = served.imageID
        unreadable = served.unreadable
        access = job.isRestored ? .restored(exact: job.image) : .served(served)
        image = nil
    }

    private static func isRecording(_ text: String) throws -> Bool {
        switch try ImageAddress.parse(text, .thisMachine) {
        case .snapshot, .stream: return true
        case .path, .volume, .http:
            do { _ = try Stat(FilePath(text)) } catch { throw SystemCallError("open", text, error) }
            if case .recording = try FileContents.detect(FilePath(text)) { return true }
            return false
        }
    }
}
