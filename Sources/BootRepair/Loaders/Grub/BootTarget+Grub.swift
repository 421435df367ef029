// SPDX-License-Identifier: GPL-3.0-or-later

extension BootTarget {
    /// GRUB in the installed system; `nil` if there is no system.
    var grub: GrubInstallation? { system == nil ? nil : survey.findings[GrubMenu()] }

    /// The reason the system's grub-install cannot run for `platform`; `nil` if it can.
    func obstacle(toInstallingGrub platform: String) -> BootObstacle? {
        guard system != nil else {
            return BootObstacle("no installed system could be read", onlyHere: survey.access == .none)
        }
        guard let grub, grub.install != nil else { return BootObstacle("it has no grub-install") }
        guard grub.platforms.contains(platform) else { return BootObstacle("it has no GRUB for \(platform)") }
        return obstacleToPrograms
    }
}
