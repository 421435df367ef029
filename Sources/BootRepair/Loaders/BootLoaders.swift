// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The table of boot loaders.
package enum BootLoaders {
    /// In planning order: the tools of a loader's platforms run before its menu is written.
    package static let table = Registry<any BootLoader>([
        GrubBIOS(), GrubEFI(), GrubMenu(), SystemdBoot(), UnifiedKernels(), Extlinux(),
    ])

    static func named(_ name: String) -> (any BootLoader)? { table.rows.first { $0.name == name } }
}
