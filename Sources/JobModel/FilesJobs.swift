// SPDX-License-Identifier: GPL-3.0-or-later

/// How the machine that reads files of an image is started.
public struct ApplianceChoice: Codable, Equatable, Sendable {
    /// The folder with the kernel and the initramfs of the medium; `nil` for the usual places.
    public var media: String?
    /// Whether KVM is used where it works.
    public var allowsKVM = true
    /// The files with the keys of LUKS volumes.
    public var luksKeyFiles: [String] = []

    /// All options off.
    public init() {}
}

/// Reads files of an image, a snapshot or a disk.
public struct FilesJob: Codable, Equatable, Sendable {
    /// What is done with the files.
    public enum Action: Codable, Equatable, Sendable {
        /// Lists the volumes.
        case volumes
        /// Lists a folder.
        case list(String)
        /// Copies files and folders into a folder of this machine.
        case get(paths: [String], destination: String, overwrites: Bool)
        /// Writes files and folders as a tar archive; `-` is standard output.
        case tar(paths: [String], file: String, overwrites: Bool)
        /// Finds files at and below a path.
        case find(String, FileCriteria)
    }

    /// The image, snapshot or disk.
    public var image: String
    /// What is done.
    public var action: Action
    /// The machine.
    public var appliance = ApplianceChoice()
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job.
    public init(image: String, action: Action) {
        self.image = image
        self.action = action
    }
}

/// Which files are found. A file must meet all of them.
public struct FileCriteria: Codable, Equatable, Sendable {
    /// The pattern of the name, with `*`, `?` and `[…]` (glob(7)); `nil` for any.
    public var name: String?
    /// Modified after this time, in seconds since 1970; `nil` for any.
    public var newerThan: Int64?
    /// `f` file, `d` folder, `l` link; `nil` for any.
    public var type: String?

    /// Any file.
    public init() {}
}

/// Compares the files of two images.
public struct FilesDiffJob: Codable, Equatable, Sendable {
    /// The older image or snapshot.
    public var from: String
    /// The newer one.
    public var to: String
    /// The machine.
    public var appliance = ApplianceChoice()
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// Creates a job for two images.
    public init(from: String, to: String) {
        self.from = from
        self.to = to
    }
}
