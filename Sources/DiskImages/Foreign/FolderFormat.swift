// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import SystemPackage

/// A folder that holds images of another tool: a row of `FolderFormat.table`.
package struct FolderFormat: Sendable {
    /// The name in messages.
    package let name: String
    package let recognize: @Sendable (FilePath) throws(ImageError) -> Bool
    /// The disks in the folder by name ("sda", "d1"), in order.
    package let disks: @Sendable (FilePath) throws(ImageError) -> [String]
    /// One of these disks.
    package let open: @Sendable (FilePath, String) throws(ImageError) -> ForeignDisk

    package init(
        name: String, recognize: @escaping @Sendable (FilePath) throws(ImageError) -> Bool,
        disks: @escaping @Sendable (FilePath) throws(ImageError) -> [String],
        open: @escaping @Sendable (FilePath, String) throws(ImageError) -> ForeignDisk
    ) {
        self.name = name
        self.recognize = recognize
        self.disks = disks
        self.open = open
    }

    /// All formats, in the order of detection.
    package static let table = Registry<FolderFormat>([clonezilla, fog])
}
