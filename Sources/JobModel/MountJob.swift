// SPDX-License-Identifier: GPL-3.0-or-later

/// Shows an image, a snapshot or a disk as a raw disk in a file.
public struct MountJob: Codable, Equatable, Sendable {
    /// The image, snapshot or disk, as given by the user.
    public var image: String
    /// The empty folder in which the file appears.
    public var folder: String
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job with its source and its folder.
    public init(image: String, folder: String) {
        self.image = image
        self.folder = folder
    }
}
