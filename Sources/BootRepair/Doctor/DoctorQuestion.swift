// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// What the appliance's agent judges a disk by. It comes from the host, as JSON.
package struct DoctorQuestion: Codable, Equatable, Sendable {
    /// The image or snapshot, as given by the user.
    package var subject: String
    /// The machine that the disk is for; `nil` for any.
    package var machine: MachineRecord?
    /// The firmware to judge for first, where no machine is named.
    package var firmware: Firmware
    /// The kernel's name of the disk when it was captured.
    package var capturedDiskName: String?

    /// More than the longest machine and its names.
    package static let longestJSON = MachineRecord.longestJSON + 64 << 10

    package init(
        subject: String, machine: MachineRecord? = nil, firmware: Firmware = .uefi, capturedDiskName: String? = nil
    ) {
        self.subject = subject
        self.machine = machine
        self.firmware = firmware
        self.capturedDiskName = capturedDiskName
    }

    package func json() throws -> [UInt8] { try DoctorJSON.encode(self) }

    package init(json: [UInt8]) throws(DoctorError) {
        self = try DoctorJSON.decode(DoctorQuestion.self, json, limit: Self.longestJSON)
    }

    /// Surveys and judges a disk of this virtual machine, whose own hardware does not count.
    /// - Parameter keyFiles: the files with the keys of LUKS volumes.
    package func answer(
        disk: FilePath, keyFiles: [FilePath] = [], log: (String) -> Void = { _ in }
    ) throws -> DoctorReport {
        let device = try BlockDevice(opening: disk)
        let options = options(keyFiles)
        return report(on: try BootRepair.survey(disk: device, options: options, log: log), options)
    }

    /// Another machine's options: what runs this is a virtual one.
    func options(_ keyFiles: [FilePath]) -> BootRepairOptions {
        var options = BootRepairOptions(
            touchNVRAM: false, firmware: machine?.firmware ?? firmware, inRecoveryEnvironment: false,
            capturedDiskName: capturedDiskName, machine: machine)
        options.luksKeyFiles = keyFiles
        return options
    }

    /// The judgment of a surveyed disk of this virtual machine.
    func report(on survey: SystemBootSurvey, _ options: BootRepairOptions) -> DoctorReport {
        var survey = survey
        // Steps name the disk: here it has a name that it has nowhere else.
        survey.disk.path = subject
        survey.disk.kernelName = survey.disk.kernelName == nil ? nil : "DISK"
        // What cannot be done in this machine can be done where the disk is restored.
        survey.kernelMountsFAT = true
        return DoctorReport(survey, options: options, subject: subject)
    }
}
