// SPDX-License-Identifier: GPL-3.0-or-later

/// What `--json` shows of GRUB's steps.
enum GrubStep: StepRecord {
    /// The installed system's own grub-install. `again`: the loader that is there would do too. `otherwise`: Reforge's
    /// built-in fallback where that fails.
    case runGrubInstall(platform: String, command: [String], again: Bool, otherwise: GrubBIOSWrite?)
    /// The installed system's own update-grub; the old grub.cfg comes back where the new one is worse.
    case updateGrub(command: [String])
    /// Boot code and block lists, without the installed system's tools.
    case writeBIOSBoot(GrubBIOSWrite)

    /// A line for a person.
    var description: String {
        switch self {
        case .runGrubInstall(_, let command, let again, let otherwise):
            "run the installed system's `\(command.joined(separator: " "))`"
                + (again ? " (the loader in place is in order; its own tool makes it fit its files)" : "")
                + (otherwise.map { "; if that fails: \($0)" } ?? "")
        case .updateGrub(let command): "run the installed system's `\(command.joined(separator: " "))`"
        case .writeBIOSBoot(let write): "\(write)"
        }
    }
}

extension BootRepairStep {
    /// - Parameters:
    ///   - again: whether the loader that is there would do too.
    ///   - otherwise: what is written where it fails.
    static func runGrubInstall(
        platform: String, command: [String], needsESP: Bool = false, again: Bool, otherwise: GrubBIOSWrite? = nil,
        by loader: String
    ) -> BootRepairStep {
        let success: ToolRun.Success =
            again
            ? .optional(remark: "The loader that was there, which was in order, is still used")
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

    /// Whether grub-install runs in it.
    var installsGrub: Bool {
        if case .runGrubInstall = record as? GrubStep { true } else { false }
    }
}
