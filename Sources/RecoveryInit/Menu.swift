// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// The numbered menu: its choices, its text, and the meaning of an answer. No side effects.
enum Menu {
    /// The choices, in order.
    enum Choice: CaseIterable {
        case restore, capture, bootRepair, network, shell, lookAgain, reboot, powerOff
        /// Only if the settings have a job that was done before.
        case repeatJob
        /// Only if there are volumes encrypted by BitLocker.
        case bitLocker

        /// The text in the menu.
        var title: String {
            switch self {
            case .restore: "Restore an image onto a disk"
            case .capture: "Capture a disk into an image"
            case .bootRepair: "Repair how a disk boots"
            case .network: "Bring up the network (DHCP)"
            case .shell: "Rescue shell on this console"
            case .lookAgain: "Look again for disks and images"
            case .reboot: "Restart the machine"
            case .powerOff: "Switch the machine off"
            case .repeatJob: "Do the job again"
            case .bitLocker: "Open a BitLocker volume for reading, or close it"
            }
        }

        /// A word accepted instead of its number.
        var word: String {
            switch self {
            case .restore: "restore"
            case .capture: "capture"
            case .bootRepair: "boot-repair"
            case .network: "network"
            case .shell: "shell"
            case .lookAgain: "again"
            case .reboot: "reboot"
            case .powerOff: "poweroff"
            case .repeatJob: "job"
            case .bitLocker: "bitlocker"
            }
        }
    }

    /// The offered choices, in order.
    static func choices(hasDoneJob: Bool, hasBitLocker: Bool = false) -> [Choice] {
        Choice.allCases.filter { ($0 != .repeatJob || hasDoneJob) && ($0 != .bitLocker || hasBitLocker) }
    }

    /// The choice for a typed line; `nil` if none.
    static func choice(_ line: String, hasDoneJob: Bool = false, hasBitLocker: Bool = false) -> Choice? {
        let choices = choices(hasDoneJob: hasDoneJob, hasBitLocker: hasBitLocker)
        if let number = number(line, of: choices.count) { return choices[number] }
        return choices.first { $0.word == line.lowercased() }
    }

    /// The index in a list of `count` items for a typed number from 1; `nil` for anything else.
    static func number(_ line: String, of count: Int) -> Int? {
        guard let number = Int(line), (1...max(1, count)).contains(number), count > 0 else { return nil }
        return number - 1
    }

    /// A numbered list.
    static func numbered(_ lines: [String]) -> String {
        lines.enumerated().map { index, line in "  \(index < 9 ? " " : "")\(index + 1)  \(line)" }.joined(
            separator: "\n")
    }

    /// The whole screen: the disks, the images and the choices.
    /// - Parameters:
    ///   - hiddenDisks: why disks may be missing.
    ///   - bitLocker: the volumes encrypted by BitLocker.
    ///   - doneJob: the description of the job that was done before.
    static func text(
        images: [FoundImage], disks: [DiskCandidate], hiddenDisks: String? = nil, bitLocker: [BlockVolume] = [],
        doneJob: String? = nil
    ) -> String {
        var parts = ["", DiskSelector.list(disks)]
        if let hiddenDisks { parts.append("warning: \(hiddenDisks)") }
        parts.append(
            images.isEmpty
                ? "No images were found on this machine's disks."
                : "The images:\n" + images.map { "  \($0.line)" }.joined(separator: "\n"))
        if !bitLocker.isEmpty {
            parts.append(
                "Encrypted by BitLocker (captured and restored as they are; their recovery key opens them for reading):\n"
                    + bitLocker.map { "  \($0.line)" }.joined(separator: "\n"))
        }
        if let doneJob { parts.append("The job of this machine was done before:\n  \(doneJob)") }
        parts.append("")
        parts.append(
            "What is to be done?\n"
                + numbered(
                    choices(hasDoneJob: doneJob != nil, hasBitLocker: !bitLocker.isEmpty).map(\.title)))
        return parts.joined(separator: "\n")
    }

    /// Whether the typed text confirms overwriting a disk: its serial number or its name, exactly.
    static func confirms(_ typed: String, _ disk: DiskIdentity) -> Bool {
        let accepted = [disk.serial?.strippedSpaces, disk.kernelName, disk.path].compactMap { $0 }
        return !typed.isEmpty && accepted.contains(typed)
    }

    /// A file's name for a new image: `sda-20261122T150405Z.img.zst`, or with the model if known.
    static func imageName(for disk: DiskIdentity, utc: String) -> String {
        let base = (disk.model ?? disk.kernelName ?? "disk").map {
            $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-"
        }
        let name = String(base.prefix(40)).split(separator: "-").joined(separator: "-")
        return "\(name.isEmpty ? "disk" : name)-\(utc.filter { $0 != ":" && $0 != "-" }).img.zst"
    }
}
