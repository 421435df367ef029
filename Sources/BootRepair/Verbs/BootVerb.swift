// SPDX-License-Identifier: GPL-3.0-or-later

/// One effect: on the installed system, on the bare disk, or on the firmware. Plain data, independent of any boot
/// loader.
package enum BootVerb: Codable, Equatable, Sendable {
    /// Runs a program of the installed system, confined. If it fails, the other verb replaces it: any except
    /// `changeNVRAM`. A program that writes a file needs no fallback: the old file is kept.
    indirect case runTool(ToolRun, otherwise: BootVerb?)
    /// Replaces words of a text file; the rest is unchanged.
    case editFile(FileEdit)
    /// Copies files; identical ones are not rewritten.
    case copyFile(FileCopies)
    /// Removes a file.
    case removeFile(FileRemoval)
    /// Writes new files.
    case writeFiles(FileWrites)
    /// Adds lines to a text file.
    case addLines(LineAddition)
    /// Writes sectors outside of filesystems, once everything is unmounted.
    case writeSectors(SectorWrites)
    /// Makes a new initramfs by the installed system's generator.
    case rebuildInitramfs(InitramfsRebuild)
    /// Replaces bytes inside of files in place, once everything is unmounted.
    case patchBytes(BytePatches)
    /// Changes the firmware's boot entries, as the last stage.
    case changeNVRAM(NVRAMChange)

    /// The time at which a verb runs: a stage ends before the next one begins.
    enum Stage: CaseIterable {
        /// While the system is mounted.
        case tree
        /// Once it is unmounted.
        case disk
        /// Once the disk is written and verified.
        case firmware
    }

    var stage: Stage {
        switch self {
        case .runTool, .editFile, .copyFile, .removeFile, .writeFiles, .addLines, .rebuildInitramfs: .tree
        case .writeSectors, .patchBytes: .disk
        case .changeNVRAM: .firmware
        }
    }

    /// Whether it runs programs of the installed system.
    var needsPrograms: Bool {
        switch self {
        case .runTool, .rebuildInitramfs: true
        case .editFile, .copyFile, .removeFile, .writeFiles, .addLines, .writeSectors, .patchBytes, .changeNVRAM: false
        }
    }

    /// Whether the installed system must be mounted for it.
    var needsSystem: Bool {
        switch self {
        case .runTool, .rebuildInitramfs: true
        case .editFile(let edit): edit.file.place == .system
        case .removeFile(let removal): removal.file.place == .system
        case .copyFile(let copies): copies.place == .system || copies.files.contains { $0.from.place == .system }
        case .writeFiles(let writes): writes.place == .system || writes.files.contains { $0.content.isInSystem }
        case .addLines(let addition): addition.file.place == .system
        case .writeSectors(let writes): writes.runs.contains { $0.source.isInSystem }
        case .patchBytes, .changeNVRAM: false
        }
    }

    /// Whether the EFI system partition must be mounted for it.
    var needsESP: Bool {
        switch self {
        case .runTool(let run, let otherwise): run.needsESP || otherwise?.needsESP == true
        case .editFile, .copyFile, .removeFile, .writeFiles, .addLines: uses(.esp)
        case .rebuildInitramfs(let rebuild): rebuild.needsESP
        case .writeSectors, .changeNVRAM, .patchBytes: false
        }
    }

    /// Whether the extended boot partition must be mounted for it.
    var needsExtendedBoot: Bool {
        switch self {
        case .runTool(_, let otherwise): otherwise?.needsExtendedBoot == true
        case .editFile, .copyFile, .removeFile, .writeFiles, .addLines: uses(.extendedBoot)
        case .rebuildInitramfs(let rebuild): rebuild.place == .extendedBoot
        case .writeSectors, .changeNVRAM, .patchBytes: false
        }
    }

    /// Whether its files are in that place.
    private func uses(_ place: TreePlace) -> Bool {
        switch self {
        case .editFile(let edit): edit.file.place == place
        case .removeFile(let removal): removal.file.place == place
        case .copyFile(let copies): copies.place == place || copies.files.contains { $0.from.place == place }
        case .writeFiles(let writes): writes.place == place
        case .addLines(let addition): addition.file.place == place
        case .runTool, .writeSectors, .changeNVRAM, .rebuildInitramfs, .patchBytes: false
        }
    }
}
