// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

extension Menu {
    /// The question about the firmware of a restored disk.
    struct FirmwareQuestion: Equatable {
        struct Answer: Equatable {
            var choice: FirmwareChoice
            var text: String
        }

        var text: String
        var answers: [Answer]
    }

    /// The question for a disk that does not start by this machine's firmware; `nil` if it does, or starts by none.
    static func firmwareQuestion(
        _ boot: BootSurvey, startsByBIOS: Bool, isUEFI: Bool
    ) -> FirmwareQuestion? {
        let startsByUEFI = !boot.efiLoaders.isEmpty
        guard startsByBIOS != startsByUEFI, startsByUEFI != isUEFI else { return nil }
        let (here, there) = isUEFI ? ("UEFI", "BIOS") : ("BIOS", "UEFI")
        let change =
            isUEFI
            ? "convert it: a GPT replaces an MBR, and an EFI system partition is made"
            : "convert it: a BIOS boot partition is made for the loader"
        return FirmwareQuestion(
            text: "This machine was started by \(here), and the captured disk starts by \(there) only.",
            answers: [
                .init(choice: .auto, text: "\(change) (the plan comes first, and says what cannot be converted)"),
                .init(choice: .keep, text: "keep it as captured, for a machine that starts by \(there)"),
            ])
    }
}
