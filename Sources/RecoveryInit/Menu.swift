// SPDX-License-Identifier: GPL-3.0-or-later
internal import DiskModel

/// The numbered menu: what it offers, how it looks, and what an answer means. No effects.
enum Menu {
    /// What it offers, in its order.
    enum Choice: CaseIterable {
        case restore, capture, bootRepair, network, shell, lookAgain, reboot, powerOff

        /// What the menu says.
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
            }
        }

        /// A word that stands for its number.
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
            }
        }
    }

    /// The choice that a typed line means; `nil` for none.
    static func choice(_ line: String) -> Choice? {
        if let number = number(line, of: Choice.allCases.count) { return Choice.allCases[number] }
        return Choice.allCases.first { $0.word == line.lowercased() }
    }

    /// The place in a list of `count` things, from 0, that a typed number from 1 means; `nil` for anything else.
    static func number(_ line: String, of count: Int) -> Int? {
        guard let number = Int(line), (1...max(1, count)).contains(number), count > 0 else { return nil }
        return number - 1
    }

    /// A numbered list.
    static func numbered(_ lines: [String]) -> String {
        lines.enumerated().map { index, line in "  \(index < 9 ? " " : "")\(index + 1)  \(line)" }.joined(
            separator: "\n")
    }

    /// The whole screen: what there is, and what can be done.
    static func text(images: [FoundImage], disks: [DiskCandidate]) -> String {
        var parts = ["", DiskSelector.list(disks)]
        parts.append(
            images.isEmpty
                ? "No images were found on this machine's disks."
                : "The images:\n" + images.map { "  \($0.line)" }.joined(separator: "\n"))
        parts.append("")
        parts.append("What is to be done?\n" + numbered(Choice.allCases.map(\.title)))
        return parts.joined(separator: "\n")
    }

    /// Whether what was typed confirms that a disk may be overwritten: its serial number or its name, exactly.
    static func confirms(_ typed: String, _ disk: DiskIdentity) -> Bool {
        let accepted = [disk.serial?.strippedSpaces, disk.kernelName, disk.path].compactMap { $0 }
        return !typed.isEmpty && accepted.contains(typed)
    }

    /// A file's name for a new image: `sda-20261122T150405Z.img.zst`, or with the model where there is one.
    static func imageName(for disk: DiskIdentity, utc: String) -> String {
        let base = (disk.model ?? disk.kernelName ?? "disk").map {
            $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-"
        }
        let name = String(base.prefix(40)).split(separator: "-").joined(separator: "-")
        return "\(name.isEmpty ? "disk" : name)-\(utc.filter { $0 != ":" && $0 != "-" }).img.zst"
    }
}
