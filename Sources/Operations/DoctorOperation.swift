// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import BootRepair
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Judges whether a disk starts on a machine: a disk of this machine directly, an image through the appliance.
package final class DoctorOperation {
    private let job: DoctorJob
    private let keys: KeyRing
    private let events: any EventSink

    package init(_ job: DoctorJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines. A disk that does not start is no error.
    package func run() throws -> DoctorReport {
        try events.reporting(
            "doctor", keys.cancellation, outcome: { Outcome($0.stops ? .incomplete : .done) }
        ) {
            // Before anything is opened: a wrong record must not take long to see.
            let record = try recorded()
            return try isDevice ? judgeDevice(record) : judgeImage(record)
        }
    }

    private var isDevice: Bool { (try? Stat(FilePath(job.disk)))?.type == .blockSpecial }

    /// The machine of `--for`; `nil` without it.
    private func recorded() throws -> MachineRecord? {
        switch job.machine {
        case nil: return nil
        case .this: return .current()
        case .record(let path):
            let bytes: [UInt8]
            do throws(SystemCallError) {
                bytes = try Files.read(FilePath(path), limit: MachineRecord.longestJSON + 1)
            } catch {
                throw JobFailure(
                    error.errno == .noSuchFileOrDirectory ? .notFound : .usage, "the machine's record: \(error)")
            }
            do throws(DoctorError) { return try MachineRecord(json: bytes) } catch {
                throw JobFailure(
                    .usage, "\(path) is no record of a machine: \(error). `reforge machine` writes one there")
            }
        }
    }

    private func judgeDevice(_ record: MachineRecord?) throws -> DoctorReport {
        let opened = try OpenedDisk(job.disk, .readOnly)
        // Another machine's firmware is not looked at.
        let isHere = job.machine == nil || job.machine == .this
        let machine = record ?? .current()
        var options = BootRepairOptions(
            firmware: machine.firmware, inRecoveryEnvironment: isHere && SystemFacts.isRecoveryEnvironment,
            machine: machine, isHere: isHere)
        let luks = LUKSKeys(job.appliance.luksKeyFiles)
        _ = try luks.unlocker()
        options.luksKeyFiles = try luks.keyFiles()
        let survey = try BootRepair.survey(disk: opened.device, options: options) { events.log($0) }
        let report = DoctorReport(survey, options: options, subject: job.disk)
        _ = KeptFindings(report, disk: job.disk)
        return report
    }

    private func judgeImage(_ record: MachineRecord?) throws -> DoctorReport {
        guard !SystemFacts.isRecoveryEnvironment else {
            throw JobFailure(
                .refused,
                "on the recovery medium, disks are judged, and \(job.disk) is none. Judge an image on another machine, "
                    + "or restore it")
        }
        let started = try OpenedAppliance.start(job.disk, job.appliance, keys, events)
        defer { started.session.close() }
        let manifest = started.source?.header.manifest
        let question = DoctorQuestion(
            subject: job.disk, machine: record,
            // Where the disk is for any machine, it is judged first for the one that it was captured on.
            firmware: manifest?.machine.firmware == "bios" ? .bios : .uefi,
            capturedDiskName: manifest?.disk.kernelName)
        events.take(.phase("judging how it starts"))
        defer { events.take(.phase("")) }
        let report: DoctorReport
        do { report = try started.session.diagnose(question) } catch {
            if let why = started.imageError { events.log("the image: \(why)") }
            throw error
        }
        if let why = started.imageError {
            throw JobFailure(.badImage, "\(job.disk) could not be judged, as parts of it cannot be read: \(why)")
        }
        try started.source?.checkHeldStill()
        return report
    }
}
