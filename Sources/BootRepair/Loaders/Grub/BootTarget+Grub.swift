// SPDX-License-Identifier: GPL-3.0-or-later

extension BootTarget {
    /// GRUB in the installed system; `nil` where there is no system.
    var grub: GrubInstallation? { system == nil ? nil : survey.findings[GrubMenu()] }

    /// Why the system's own grub-install cannot be run for `platform`; `nil` where it can.
    func obstacle(toInstallingGrub platform: String) -> BootObstacle? {
        guard system != nil else {
            return BootObstacle("no installed system could be looked into", onlyHere: survey.access == .none)
        }
        guard let grub, grub.install != nil else { return BootObstacle("it has no grub-install") }
        guard grub.platforms.contains(platform) else { return BootObstacle("it has no GRUB for \(platform)") }
        return obstacleToPrograms
    }
}
