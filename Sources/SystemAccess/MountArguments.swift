// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// What mount(2) is told of a volume. The table is `FilesystemTraits.mount`; only here do its rows become mounts, so that
/// none for reading replays a journal.
struct MountArguments {
    /// The type for the kernel.
    let type: String
    /// The flags.
    private(set) var options: Mount.Options
    /// The filesystem's own options, with commas between them.
    private(set) var data = ""

    /// - Parameters:
    ///   - options: what does not count on the volume.
    ///   - readOnly: whether nothing is written to it, its journal included.
    init(_ manner: FilesystemTraits.MountManner, _ options: Mount.Options, readOnly: Bool) {
        type = manner.type
        self.options = options
        guard readOnly else { return }
        self.options.insert(.readOnly)
        add(manner.readOnlyOptions)
    }

    /// Adds an option of the filesystem's own.
    mutating func add(_ option: String) {
        guard !option.isEmpty else { return }
        data += (data.isEmpty ? "" : ",") + option
    }
}
