// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// The arguments of mount(2) for a volume, from `FilesystemTraits.mount`. They are built only here, so that no
/// read-only mount replays a journal.
struct MountArguments {
    /// The kernel's filesystem type.
    let type: String
    /// The flags.
    private(set) var options: Mount.Options
    /// The filesystem's own options, comma-separated.
    private(set) var data = ""

    /// - Parameters:
    ///   - options: restrictions, for example no devices.
    ///   - readOnly: whether nothing is written to the volume, including its journal.
    init(_ manner: FilesystemTraits.MountManner, _ options: Mount.Options, readOnly: Bool) {
        type = manner.type
        self.options = options
        guard readOnly else { return }
        self.options.insert(.readOnly)
        add(manner.readOnlyOptions)
    }

    /// Adds an option to `data`.
    mutating func add(_ option: String) {
        guard !option.isEmpty else { return }
        data += (data.isEmpty ? "" : ",") + option
    }
}
