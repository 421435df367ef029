// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import DiskModel
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Inspects a disk, an image or a snapshot. Writes nothing.
package final class InspectOperation {
    private let job: InspectJob
    private let keys: KeyRing
    private let events: any EventSink

    /// - Parameter keys: the job's passwords.
    package init(_ job: InspectJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> InspectReport {
        try events.reporting("inspect", keys.cancellation, outcome: { _ in Outcome(.done) }) {
            guard try isCapture() else { return try inspectDisk() }
            guard job.luksKeyFiles.isEmpty else {
                throw JobFailure(.usage, "--luks-key-file opens LUKS volumes on a disk, not in an image")
            }
            let opened = try OpenedImage.open(job.disk, keys, scratch: .none)
            var report = InspectReport(opened)
            do { report.proof = try KeptProofs.last(of: opened, keys)?.facts } catch {
                report.warnings.append(
                    "its proof does not count: \(JobFailure(error, cancellation: keys.cancellation))")
            }
            return report
        }
    }

    private func inspectDisk() throws -> InspectReport {
        let unlocker = try LUKSKeys(job.luksKeyFiles).unlocker()
        let opened = try OpenedDisk(job.disk, .readOnly, sectorSize: job.sectorSize)
        let survey = try opened.survey(trustMaps: job.trustsMaps, unlocker: unlocker)
        var report = InspectReport(survey)
        if let known = try opened.knownImage {
            report.warnings.append(
                "\(job.disk) is \(known.name), not a disk: its bytes are shown as those of a disk")
        }
        report.interruptedRestore = try InterruptedRestore(on: opened.device, survey.volumes)
        try unlocker?.check(job.disk)
        return report
    }

    /// Whether the path is a snapshot, a Reforge image, a compressed raw image or images of another tool. Devices and raw images are disks.
    private func isCapture() throws -> Bool {
        if case .snapshot = try ImageAddress.parse(job.disk, .thisMachine) { return true }
        let path = FilePath(job.disk)
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", path.string, error) }
        guard status.type == .regular || status.type == .directory else { return false }
        return switch try FileContents.detect(path) {
        case .recording: true
        case .disk(let format): !format.isPlain
        case .foreign: true
        case .unknown: try DiskFormat.virtualContradiction(path) != nil
        }
    }
}
