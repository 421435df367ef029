// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The inputs of a plan: the surveyed disk, its machine, and the permissions.
package struct BootTarget: Sendable {
    package let survey: SystemBootSurvey
    package let options: BootRepairOptions

    package init(_ survey: SystemBootSurvey, _ options: BootRepairOptions) {
        self.survey = survey
        self.options = options
    }

    package var system: InstalledSystem? { survey.system }

    /// Whether this machine boots by that firmware.
    package func isAtHand(_ firmware: Firmware) -> Bool { survey.firmware == firmware }

    /// Whether the machine is known that the disk is for: on a workstation, it may be for any.
    package var machineIsKnown: Bool { options.inRecoveryEnvironment || options.machine != nil }

    /// What the disk hangs on in the machine, for each way that is possible there; empty if the machine is unknown.
    var ways: [[DeviceDriver]] { options.ways(to: survey.disk) }

    /// Whether it is known on which controller of the machine the disk is, or will be.
    var controllerIsKnown: Bool {
        options.isHere || (options.machine?.devices(behind: nil).count ?? 0) <= 1
    }

    /// Whether the disk must start by that firmware.
    package func matters(_ firmware: Firmware) -> Bool { isAtHand(firmware) || !machineIsKnown }

    /// The mount point of the EFI system partition in the system.
    package var espMountPoint: String {
        survey.esp.flatMap { system?.mountPoint(ofPartition: $0.partition) } ?? "/boot/efi"
    }

    /// The reason the installed system's programs cannot run; `nil` if they can.
    package var obstacleToPrograms: BootObstacle? {
        guard let system else { return BootObstacle("no installed system was found") }
        guard system.programsRunHere else { return BootObstacle("its programs are for another processor") }
        if let boot = system.missingBoot { return BootObstacle("its /boot (\(boot)) cannot be mounted here") }
        guard survey.access == .partitionNodes else {
            return BootObstacle(
                survey.accessProblem ?? "this kernel has no nodes for the disk's partitions", onlyHere: true)
        }
        return nil
    }

    /// The reason the EFI system partition cannot be written; `nil` if it can.
    package var obstacleToESP: BootObstacle? {
        guard survey.access != .none else {
            return BootObstacle(survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true)
        }
        guard survey.kernelMountsFAT else { return BootObstacle("this kernel does not mount FAT", onlyHere: true) }
        return nil
    }
}
