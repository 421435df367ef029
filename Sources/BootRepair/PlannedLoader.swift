// SPDX-License-Identifier: GPL-3.0-or-later

/// The loader on the EFI system partition to be started by UEFI firmware.
package struct PlannedLoader: Equatable, Sendable {
    /// The folder below `\EFI`.
    package var folder: String
    /// The file in it.
    package var name: String
    /// Files beside it that its copy needs too, if they exist.
    package var companions: [String]
    /// Whether a step of the plan writes it.
    package var isNew: Bool
    /// The label of its entry in the firmware.
    package var label: String

    /// - Parameter label: by default, the folder.
    package init(folder: String, name: String, companions: [String] = [], isNew: Bool, label: String? = nil) {
        self.folder = folder
        self.name = name
        self.companions = companions
        self.isNew = isNew
        self.label = label ?? folder
    }

    /// Its path with backslashes.
    package var path: String { "\\EFI\\\(folder)\\\(name)" }
}
