// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

/// A destination that is being written to.
package final class OpenedDestination {
    package let sink: any ImageWriter
    /// The writer of a snapshot, which can be read before it is published; `nil` for an image.
    let snapshot: SnapshotWriter?
    /// Runs after the sink has finished.
    private let commit: () throws -> Void
    /// Runs if the sink does not finish.
    private let abandon: () -> Void

    private init(
        _ sink: any ImageWriter, snapshot: SnapshotWriter? = nil, commit: @escaping () throws -> Void = {},
        abandon: @escaping () -> Void = {}
    ) {
        self.sink = sink
        self.snapshot = snapshot
        self.commit = commit
        self.abandon = abandon
    }

    /// Opens an image file, or standard output, for writing.
    package static func image(
        _ path: FilePath?, _ header: ImageHeader, _ options: ImageDestination.ImageOptions, _ keys: KeyRing
    ) throws -> OpenedDestination {
        if options.isXZ, let path {
            let writer: XZImageWriter
            do { writer = try XZImageWriter(path, overwrite: options.overwrite, header: header) } catch let error
                as SystemCallError
            { throw JobFailure(.cannotCreate, "\(error)") }
            return OpenedDestination(writer)
        }
        let output: ImageOutput
        do { output = try path.map { try ImageOutput($0, overwrite: options.overwrite) } ?? ImageOutput() } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
        let seal =
            try options.isEncrypted
            ? ImageSeal(password: keys.newPassword("the new image \(path?.string ?? "on standard output")")) : nil
        // The image's folder has space for the image; another folder may have none.
        let folder = path.map { $0.removingLastComponent() } ?? Files.temporaryFolder
        let writer = try ImageFileWriter(
            to: output.descriptor, name: output.name, header: header, seal: seal, scratch: folder.isEmpty ? "." : folder
        )
        return OpenedDestination(writer, commit: { try output.commit() })
    }

    /// Opens a repository for writing a snapshot.
    package static func snapshot(
        _ repository: Repository, lock: RepositoryLock, _ header: ImageHeader, host: String, disk: String,
        tags: [String], level: Int, _ events: any EventSink
    ) throws -> OpenedDestination {
        let writer = try repository.writer(
            header: header, host: host, disk: disk, tags: tags, level: level, mayPublish: { try lock.confirm() })
        return OpenedDestination(
            writer, snapshot: writer, commit: { mergeIndexes(repository, events) },
            abandon: {
                writer.abandon()
                lock.release()
            })
    }

    /// Merges small indexes if there are many; skipped while other maintenance runs.
    private static func mergeIndexes(_ repository: Repository, _ events: any EventSink) {
        guard let lock = try? repository.lock(.merge) else { return }
        defer { lock.release() }
        do { try repository.mergeSmallIndexes { try lock.confirm() } } catch {
            events.warn("indexes-not-merged", "the indexes of \(repository.name) were not merged: \(error)")
        }
    }

    /// Runs a capture into the destination: it appears completely, or not at all.
    package func run(_ executor: CaptureExecutor, beforeEnd: () throws -> Void = {}, facts: (() -> LateFacts)? = nil)
        throws
        -> CaptureExecutor.Outcome
    {
        do {
            let outcome = try executor.run(sink, beforeEnd: beforeEnd, facts: facts)
            try commit()
            return outcome
        } catch {
            abandon()
            throw error
        }
    }
}
