// SPDX-License-Identifier: GPL-3.0-or-later

/// Makes an image or snapshots of images that another tool made.
public struct ImportJob: Codable, Equatable, Sendable {
    /// A folder of another tool, a partclone image, or a raw image.
    public var source: String
    /// An image, or `REPO@`.
    public var destination: String
    /// The disk of a folder that holds several; `nil` for the only one, or for all of them into a repository.
    public var disk: String?
    /// The zstd compression level.
    public var level = 3
    /// Whether the image that is written is encrypted.
    public var encrypts = false
    /// Whether an existing image is replaced.
    public var overwrites = false
    /// The host name in a repository; `nil` for one found in the source.
    public var host: String?
    /// A remark for the manifest.
    public var note = ""
    /// The tags of the snapshot or image.
    public var tags: [String] = []
    /// A folder for the decompressed disk; `nil` to read its parts as streams.
    public var scratch: String?
    /// Whether missing and damaged parts are accepted as losses.
    public var salvages = false
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job with its source and its destination.
    public init(source: String, destination: String) {
        self.source = source
        self.destination = destination
    }
}
