// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Imports images that another tool made: each stream is read once, checked with the checksums it has, and stored as an
/// image or a snapshot of Reforge.
package final class ImportOperation {
    private let job: ImportJob
    private let keys: KeyRing
    private let events: any EventSink

    /// - Parameter keys: the passwords of the destination.
    package init(_ job: ImportJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> ImportReport {
        try events.reporting("import", keys.cancellation, outcome: { $0.outcome }) {
            try CapturedHost.check(job.host, "--host")
            let start = SystemFacts.monotonicSeconds()
            let target = try ImageDestination(job.destination, events)
            let options = ImageDestination.ImageOptions(
                isEncrypted: job.encrypts, isXZ: false, overwrite: job.overwrites)
            try target.refuse(options)
            if try !target.isEncrypted(options) { try keys.refuseUnused(job.destination) }
            let (format, names) = try source(into: target)
            var report = ImportReport()
            for name in names {
                report.disks.append(try disk(name, format, to: target, options))
            }
            report.seconds = SystemFacts.monotonicSeconds() - start
            return report
        }
    }

    /// The format of the source, and the disks to import: the named one, the only one, or all into a repository. `nil`
    /// stands for a raw image.
    private func source(into target: ImageDestination) throws -> (String, [String?]) {
        let path = FilePath(job.source)
        switch try FileContents.detect(path) {
        case .recording(let format):
            throw JobFailure(
                .usage, "\(job.source) is a \(format.name): copy it with reforge copy \(job.source) \(job.destination)")
        case .unknown(let why): throw ImageError.foreign(name: job.source, why: why)
        case .disk(let format):
            guard job.disk == nil else { throw JobFailure(.usage, "\(job.source) holds one disk: leave --disk out") }
            return (format.name, [nil])
        case .foreign(let format):
            let names = try format.disks(path)
            guard job.disk == nil, names.count > 1, case .repository = target else { return (format.name, [job.disk]) }
            events.log("\(job.source) holds \(names.count) disks: \(names.map(\.printable).joined(separator: ", "))")
            return (format.name, names)
        }
    }

    private func disk(
        _ name: String?, _ format: String, to target: ImageDestination, _ options: ImageDestination.ImageOptions
    ) throws -> ImportReport.Disk {
        var copyJob = CopyJob(source: job.source, destination: job.destination)
        (copyJob.level, copyJob.host, copyJob.salvages) = (job.level, job.host, job.salvages)
        copyJob.allowsBacking = job.allowsBacking
        let copier = CopyOperation(copyJob, keys: keys, targetKeys: keys, hasOwnPassword: false, events: events)
        let input = try OpenedImage.open(
            job.source, keys, salvages: job.salvages,
            scratch: job.scratch.map { .folder(FilePath($0)) } ?? .usual, disk: name)
        var warnings = input.reader.header.manifest.warnings
        if input.isStreamed, case .repository = target {
        } else if input.isStreamed {
            let text =
                "the least sizes of the filesystems are unknown, so that they cannot be made smaller from this image: import "
                + "into a repository, or with --scratch FOLDER, which finds them"
            events.warn("least-sizes", text)
            warnings.append(text)
        }
        let copy = try copier.copy(
            input, try copier.salvaging(input), to: target, options, measures: input.isStreamed
        ) { manifest in
            (manifest.note, manifest.tags, manifest.warnings) = (job.note, job.tags, warnings)
        }
        return ImportReport.Disk(
            name: name ?? FilePath(job.source).lastComponent?.string ?? job.source, format: format, id: copy.id,
            readByteCount: copy.readByteCount, newByteCount: copy.newByteCount,
            deduplicatedByteCount: copy.deduplicatedByteCount, storedByteCount: copy.storedByteCount,
            warnings: warnings, lost: copy.lost)
    }
}
