// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import Codecs
import DiskModel
import Emulator
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// Makes a disk image for virtual machines: the same bytes, or the disk laid out again on another size.
///
/// The output has a temporary name beside its final one until it is complete.
package final class ExportOperation {
    let job: ExportJob
    let keys: KeyRing
    let events: any EventSink
    var cancellation: Cancellation { keys.cancellation }
    /// Whether the output has its name.
    private var isPublished = false

    /// - Parameter keys: the job's passwords.
    package init(_ job: ExportJob, keys: KeyRing, events: any EventSink) {
        (self.job, self.keys, self.events) = (job, keys, events)
        keys.allowsBacking = job.allowsBacking
    }

    /// Runs the export.
    /// - Throws: `JobFailure` or an error of the engines; there is no output then.
    package func run() throws -> ExportReport {
        try events.reporting("export", cancellation, outcome: { $0.outcome }) {
            do { return try exported() } catch {
                let failure = JobFailure(error, cancellation: cancellation)
                throw failure.followed(by: failureText)
            }
        }
    }

    private var failureText: String {
        if isPublished { return "\(job.output) is complete, but may not outlast a power failure." }
        return Files.exists(FilePath(job.output)) ? "\(job.output) was not changed." : "\(job.output) was not made."
    }

    /// What is left if the export ends now. From any thread.
    package static func leftBehind(_ job: ExportJob) -> String {
        Files.exists(FilePath(job.output))
            ? "\(job.output) is as it was, or complete." : "\(job.output) was not made."
    }

    private func exported() throws -> ExportReport {
        let start = SystemFacts.monotonicSeconds()
        if let why = job.contradiction { throw JobFailure(.usage, why) }
        let hypervisor = try Hypervisor.chosen(job.hypervisor)
        let format = try ExportFormat.chosen(job.format, for: FilePath(job.output), hypervisor)
        let target = ExportTarget(FilePath(job.output), format, overwrites: job.overwrites, for: hypervisor)
        try target.refuse(source: job.image)
        try target.refuse()
        if format != .raw || !job.isRestored { try QemuProgram.image.require() }
        let source = try OpenedExportSource(job, keys)
        try keys.refuseUnused(job.image)
        let manifest = source.manifest
        var report = try begunReport(source, target, hypervisor)
        let sectorSize = job.isRestored ? 512 : manifest.geometry.logicalSectorSize
        let question = try hypervisor.map { try self.question($0, report.start.firmware, manifest, format) }
        report.machine = question?.machine?.name
        remark(on: manifest, target, &report)
        if job.isDryRun {
            if let question { try foresee(question, manifest, &report) }
            report.seconds = SystemFacts.monotonicSeconds() - start
            return report
        }
        let output = try begun(target)
        do {
            // It keeps a snapshot, and the claim of a disk.
            defer { withExtendedLifetime(source) {} }
            switch source.access {
            case .restored(let exact): try restore(exact, byteCount: report.byteCount, target, output, &report)
            case .served(let served): try convert(served, target, output)
            }
            if let question {
                try adapt(question, target, output, manifest, sectorSize: sectorSize, &report)
            }
        } catch {
            throw target.explained(
                JobFailure(error, cancellation: cancellation), neededByteCount: manifest.usedByteCount)
        }
        try finish(target, output, &report)
        report.seconds = SystemFacts.monotonicSeconds() - start
        return report
    }

    /// The report of an export that has written nothing yet.
    private func begunReport(
        _ source: OpenedExportSource, _ target: ExportTarget, _ hypervisor: Hypervisor?
    ) throws -> ExportReport {
        let manifest = source.manifest
        let lacks = try unreadable(source)
        if job.partitions.isEmpty { try ExportRemarks.refuse(manifest, job.image) }
        let byteCount = job.byteCount ?? manifest.geometry.byteCount
        try target.format.refuse(byteCount)
        var report = ExportReport(
            image: job.image, imageID: source.imageID?.description, output: job.output,
            format: target.format.rawValue, byteCount: byteCount, fileByteCount: 0, storedByteCount: 0,
            start: MachineStart(
                manifest, target.format, FilePath(job.output),
                sectorSize: job.isRestored ? 512 : manifest.geometry.logicalSectorSize, for: hypervisor),
            warnings: [], unreadable: lacks)
        report.dryRun = job.isDryRun
        return report
    }

    /// The ranges that the capture could not read, as sentences: they must not become zeros without a word.
    private func unreadable(_ source: OpenedExportSource) throws -> [String] {
        let texts = source.manifest.unreadableTexts(source.unreadable)
        guard !texts.isEmpty, !job.salvages else { return texts }
        throw JobFailure(
            .badImage,
            "\(job.image) is incomplete: \(texts.joined(separator: "; ")). To export the rest, with zeros in these places, add "
                + "--salvage")
    }

    private func remark(on manifest: Manifest, _ target: ExportTarget, _ report: inout ExportReport) {
        var remarks = ExportRemarks.about(manifest, job.image, isRestored: job.isRestored)
        if let free = Files.freeByteCount(target.folder), free < manifest.usedByteCount {
            remarks.append(
                .init(
                    code: "little-room",
                    text:
                        "\(target.path) may need up to \(ByteText.rounded(manifest.usedByteCount)), and \(target.folder) has "
                        + "\(ByteText.rounded(free)) free"))
        }
        if keys.wasUsed {
            remarks.append(.init(code: "in-the-clear", text: "\(target.path) is not encrypted, unlike \(job.image)"))
        }
        for remark in remarks { events.warn(remark.code, remark.text) }
        report.warnings += remarks.map(\.text)
    }

    private func begun(_ target: ExportTarget) throws -> ToolOutput {
        do { return try ToolOutput(target.path, overwrite: target.overwrites) } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
    }

    /// Copies the disk by `qemu-img`, from an NBD server of this process.
    private func convert(_ source: ServedSource, _ target: ExportTarget, _ output: ToolOutput) throws {
        let folder = try PrivateFolder()
        let server = try NBDServer(source.disk, at: .unix(folder.path.appending("disk")))
        defer { withExtendedLifetime(folder) { server.stop() } }
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        let total = max(1, source.header.manifest.usedByteCount)
        let phase = "write \(target.format.rawValue)"
        progress.show(phase, done: 0, total: total)
        do throws(EmulatorError) {
            try QemuImage.convert(
                from: server.uri, to: output.path, format: target.format.driver, options: target.options,
                progress: { progress.show(phase, done: UInt64(min(max($0, 0), 1) * Double(total)), total: total) },
                cancellation: cancellation)
        } catch {
            // qemu-img knows only the number of an error.
            if case .failed = error, let failure = server.failure { throw lost(failure, source) }
            throw error
        }
        // A failed read counts whatever qemu-img made of it.
        if let failure = server.failure { throw lost(failure, source) }
        try source.checkHeldStill()
    }

    /// A part of the source that cannot be read.
    private func lost(_ error: BlockIOError, _ source: ServedSource) -> JobFailure {
        let manifest = source.header.manifest
        let end = error.offset.addingReportingOverflow(error.byteCount)
        let range = error.offset..<(end.overflow ? UInt64.max : end.partialValue)
        let places = manifest.holes([range]).map {
            $0.partition.map { "partition \($0)" } ?? "the space outside partitions"
        }
        let place = places.isEmpty ? "" : " (in \(places.joined(separator: " and ")))"
        guard let damage = source.damage else { return JobFailure(.ioError, "\(error)\(place)") }
        return JobFailure(
            JobFailure(damage, cancellation: cancellation).status,
            "\(error)\(place). `reforge verify` lists all damage; to export the rest, with zeros in place of what is lost, add "
                + "--salvage")
    }

    /// Publishes the output.
    private func finish(_ target: ExportTarget, _ output: ToolOutput, _ report: inout ExportReport) throws {
        try cancellation.check()
        if target.format == .vmdk, let old = output.path.lastComponent, let new = target.path.lastComponent {
            try VMDKDescriptor.rename(output.path, from: old.string, to: new.string)
        }
        let status: Stat
        do { status = try Stat(output.path) } catch { throw SystemCallError("look at", output.path.string, error) }
        report.fileByteCount = UInt64(max(0, status.size))
        report.storedByteCount = UInt64(max(0, status.sizeAllocated))
        // A machine may have been started from it meanwhile.
        try target.refuse()
        do throws(SystemCallError) { try output.commit() } catch {
            isPublished = output.isPublished
            throw target.explained(
                JobFailure(error.errno == .fileExists ? .cannotCreate : .ioError, "\(error)"),
                neededByteCount: report.storedByteCount)
        }
    }
}
