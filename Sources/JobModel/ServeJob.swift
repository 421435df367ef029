// SPDX-License-Identifier: GPL-3.0-or-later

/// Serves a disk, an image or a snapshot by NBD, read-only, until it is interrupted.
public struct ServeJob: Codable, Equatable, Sendable {
    /// The disk, image or snapshot, as given by the user.
    public var source: String
    /// Where clients connect.
    public var place: Place
    /// Whether a virtual machine's disk image may name files outside its folder.
    public var allowsBacking = false

    /// A place for clients.
    public enum Place: Codable, Equatable, Sendable {
        /// A Unix socket in a new private folder.
        case privateFolder
        /// A Unix socket with this path.
        case socket(String)
        /// A TCP port of 127.0.0.1; 0 for any free one.
        case loopback(port: UInt16)
    }

    /// Creates a job for a source.
    public init(source: String, place: Place = .privateFolder) {
        self.source = source
        self.place = place
    }
}
