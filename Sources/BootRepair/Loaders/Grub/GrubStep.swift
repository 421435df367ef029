// SPDX-License-Identifier: GPL-3.0-or-later

/// The `--json` form of GRUB's steps.
enum GrubStep: StepRecord {
    /// The installed system's grub-install. `again`: the existing loader works too. `otherwise`: Reforge's built-in
    /// fallback.
    case runGrubInstall(platform: String, command: [String], again: Bool, otherwise: GrubBIOSWrite?)
    /// The installed system's update-grub; the old grub.cfg is restored if the new one is worse.
    case updateGrub(command: [String])
    /// Boot code and block lists, without the installed system's tools.
    case writeBIOSBoot(GrubBIOSWrite)
    /// GRUB on the EFI system partition, without the installed system's tools.
    case writeGrubEFI(GrubEFIWrite)

    /// A line for the user.
    var description: String {
        switch self {
        case .runGrubInstall(_, let command, let again, let otherwise):
            "run the installed system's `\(command.joined(separator: " "))`"
                + (again ? " (the loader in place is valid; its own tool makes it match its files)" : "")
                + (otherwise.map { "; if that fails: \($0)" } ?? "")
        case .updateGrub(let command): "run the installed system's `\(command.joined(separator: " "))`"
        case .writeBIOSBoot(let write): "\(write)"
        case .writeGrubEFI(let write): "\(write)"
        }
    }
}

extension BootRepairStep {
    /// - Parameters:
    ///   - again: whether the existing loader works too.
    ///   - otherwise: the fallback if it fails.
    static func runGrubInstall(
        platform: String, command: [String], needsESP: Bool = false, again: Bool, otherwise: GrubBIOSWrite? = nil,
        by loader: String
    ) -> BootRepairStep {
        let success: ToolRun.Success =
            again
            ? .optional(remark: "The previous loader, which was valid, is still used")
            : .needed(consequence: "GRUB for \(platform) is not installed")
        return BootRepairStep(
            GrubStep.runGrubInstall(platform: platform, command: command, again: again, otherwise: otherwise),
            .runTool(ToolRun(command, needsESP: needsESP, success: success), otherwise: otherwise?.verb), by: loader)
    }

    static func updateGrub(_ command: [String], folder: String, by loader: String) -> BootRepairStep {
        BootRepairStep(
            GrubStep.updateGrub(command: command),
            .runTool(ToolRun(command, success: .file("\(folder)/grub.cfg")), otherwise: nil), by: loader)
    }

    static func writeBIOSBoot(_ write: GrubBIOSWrite, by loader: String) -> BootRepairStep {
        BootRepairStep(GrubStep.writeBIOSBoot(write), write.verb, by: loader)
    }

    static func writeGrubEFI(_ write: GrubEFIWrite, by loader: String) -> BootRepairStep {
        BootRepairStep(GrubStep.writeGrubEFI(write), write.verb, by: loader)
    }

    /// Whether the step runs grub-install.
    var installsGrub: Bool {
        if case .runGrubInstall = record as? GrubStep { true } else { false }
    }
}
