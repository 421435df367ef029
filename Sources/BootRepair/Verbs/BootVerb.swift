// SPDX-License-Identifier: GPL-3.0-or-later

/// One effect: on the installed system, on the bare disk, or on the firmware. Plain data, which names no boot loader.
package enum BootVerb: Codable, Equatable, Sendable {
    /// A program of the installed system runs, confined. Where it fails, the other verb is done in its place: any but
    /// `changeNVRAM`. A file that the program should have written needs none: the old one stays.
    indirect case runTool(ToolRun, otherwise: BootVerb?)
    /// Words of a text file are replaced; everything else of it stays.
    case editFile(FileEdit)
    /// Files are copied; what is the same already is not written.
    case copyFile(FileCopies)
    /// Sectors outside of filesystems are written, once everything is unmounted.
    case writeSectors(SectorWrites)
    /// The firmware's boot entries change, last of all.
    case changeNVRAM(NVRAMChange)

    /// When a verb is done: a stage ends before the next one begins.
    enum Stage: CaseIterable {
        /// While the system is mounted.
        case tree
        /// Once it is unmounted.
        case disk
        /// Once the disk is written and looked at.
        case firmware
    }

    var stage: Stage {
        switch self {
        case .runTool, .editFile, .copyFile: .tree
        case .writeSectors: .disk
        case .changeNVRAM: .firmware
        }
    }

    /// Whether programs of the installed system run in it.
    var needsPrograms: Bool { if case .runTool = self { true } else { false } }

    /// Whether the installed system has to be mounted for it.
    var needsSystem: Bool {
        switch self {
        case .runTool: true
        case .editFile(let edit): edit.file.place == .system
        case .copyFile(let copies): copies.place == .system || copies.files.contains { $0.from.place == .system }
        case .writeSectors(let writes): writes.runs.contains { $0.source.isInSystem }
        case .changeNVRAM: false
        }
    }

    /// Whether the EFI system partition has to be mounted for it.
    var needsESP: Bool {
        switch self {
        case .runTool(let run, let otherwise): run.needsESP || otherwise?.needsESP == true
        case .editFile(let edit): edit.file.place == .esp
        case .copyFile(let copies): copies.place == .esp || copies.files.contains { $0.from.place == .esp }
        case .writeSectors, .changeNVRAM: false
        }
    }
}
