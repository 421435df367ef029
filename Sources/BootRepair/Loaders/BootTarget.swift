// SPDX-License-Identifier: GPL-3.0-or-later

/// What a plan is made for: a disk as surveyed, the machine that it is in, and what may be done.
package struct BootTarget: Sendable {
    package let survey: SystemBootSurvey
    package let options: BootRepairOptions

    package init(_ survey: SystemBootSurvey, _ options: BootRepairOptions) {
        self.survey = survey
        self.options = options
    }

    package var system: InstalledSystem? { survey.system }

    /// Whether this machine starts disks by that firmware.
    package func isAtHand(_ firmware: Firmware) -> Bool { survey.firmware == firmware }

    /// Whether it matters that the disk does not start by that firmware: on a workstation, it may be for any machine.
    package func matters(_ firmware: Firmware) -> Bool { isAtHand(firmware) || !options.inRecoveryEnvironment }

    /// Where the EFI system partition is mounted inside the system.
    package var espMountPoint: String {
        survey.esp.flatMap { system?.mountPoint(ofPartition: $0.partition) } ?? "/boot/efi"
    }

    /// Why the installed system's programs cannot be run; `nil` where they can.
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

    /// Why nothing can be written to the EFI system partition; `nil` where it can.
    package var obstacleToESP: BootObstacle? {
        guard survey.access != .none else {
            return BootObstacle(survey.accessProblem ?? "its partitions cannot be mounted", onlyHere: true)
        }
        guard survey.kernelMountsFAT else { return BootObstacle("this kernel does not mount FAT", onlyHere: true) }
        return nil
    }
}
