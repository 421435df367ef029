// SPDX-License-Identifier: GPL-3.0-or-later

/// The location of an existing or new image, snapshot or repository: one type for commands, the menu, the kernel
/// command line and `reforge.json`.
public enum ImageAddress: Hashable, Sendable, CustomStringConvertible {
    /// Standard input or output.
    case stream
    /// A file or folder of this machine.
    case path(String)
    /// A snapshot of a repository, in a folder of this machine or a store, or that repository.
    case snapshot(SnapshotAddress)
    /// A file on a volume of this machine that may not be mounted. The path starts with `/` and is the volume's own; it
    /// may name a snapshot (`/folder@latest`) or a repository (`/folder@`).
    case volume(VolumeName, path: String)
    /// `http://host[:port]/path`, as it was written.
    case http(String)

    /// The name of a volume.
    public enum VolumeName: Hashable, Sendable, CustomStringConvertible {
        /// By its filesystem's label.
        case label(String)
        /// By its filesystem's UUID or volume id, as blkid shows it; either case.
        case uuid(String)
        /// By its device, `/dev/sdb1`.
        case device(String)

        /// As an address writes it.
        public var description: String {
            switch self {
            case .label(let label): "LABEL=\(label)"
            case .uuid(let uuid): "UUID=\(uuid)"
            case .device(let path): path
            }
        }
    }

    /// What exists at a path.
    public enum Place: Sendable {
        /// Nothing.
        case nothing
        /// A file, a device.
        case file
        /// A folder that is no repository.
        case folder
        /// A repository.
        case repository
    }

    /// The parser's questions about the machine and the calendar; the parser itself accesses neither.
    public struct Lookup: Sendable {
        /// What exists at a path. A path that cannot be examined counts as nothing.
        public var place: @Sendable (String) -> Place
        /// Whether a text is a time, such as `2026-11-22T15:00`.
        public var isTime: @Sendable (String) -> Bool

        /// Whether a text is the address of a store, such as `sftp://host/folder/repo`.
        public var isStore: @Sendable (String) -> Bool

        /// Creates a lookup.
        public init(
            place: @escaping @Sendable (String) -> Place, isTime: @escaping @Sendable (String) -> Bool,
            isStore: @escaping @Sendable (String) -> Bool = { _ in false }
        ) {
            self.place = place
            self.isTime = isTime
            self.isStore = isStore
        }
    }

    /// The text that parses to this.
    public var description: String {
        switch self {
        case .stream: "-"
        case .path(let path): path
        case .snapshot(let snapshot): snapshot.text
        case .volume(let volume, let path): "\(volume):\(path)"
        case .http(let address): address
        }
    }

    /// Whether reaching it needs the network.
    public var needsNetwork: Bool {
        if case .http = self { true } else { false }
    }

    // MARK: On this machine

    /// Parses an argument of a command: `-`, a path, or `REPO@…`.
    ///
    /// If a file or folder has the whole text as its name, the text is its path. Otherwise the last "@" with a folder
    /// before it counts, because names of folders and hosts may contain an "@". The address of a store always names a
    /// repository, or a snapshot in it.
    /// - Throws: status 66 if a repository precedes the "@" and no valid snapshot name follows it.
    public static func parse(_ text: String, _ lookup: Lookup) throws(JobFailure) -> ImageAddress {
        if text == "-" { return .stream }
        if lookup.isStore(text) { return .snapshot(try stored(text, lookup)) }
        guard lookup.place(text) == .nothing, let snapshot = try snapshot(text, lookup) else { return .path(text) }
        return .snapshot(snapshot)
    }

    /// The snapshot that a text could also name if a file or folder has that name; for a notice, because `parse` takes
    /// the file.
    public static func hiddenSnapshot(by text: String, _ lookup: Lookup) -> SnapshotAddress? {
        guard lookup.place(text) != .nothing, let snapshot = try? snapshot(text, lookup),
            lookup.place(snapshot.repository) == .repository
        else { return nil }
        return snapshot
    }

    /// A snapshot in a store, or the repository. The first "@" of the path counts, because nothing can be asked of the
    /// store yet; one before the path is part of the host: `sftp://user@host/repo`.
    private static func stored(_ text: String, _ lookup: Lookup) throws(JobFailure) -> SnapshotAddress {
        let host = text.firstRange(of: "://")?.upperBound ?? text.startIndex
        let path = text[host...].firstIndex(of: "/") ?? text.endIndex
        let mark = text[path...].firstIndex(of: "@") ?? text.endIndex
        let found = SnapshotAddress(
            String(text[..<mark]), behindMark: text[mark...].dropFirst(), text, isTime: lookup.isTime)
        guard let found else {
            throw JobFailure(
                .notFound, "\(text): the \"@\" is followed by no snapshot's name: \(SnapshotAddress.forms)")
        }
        return found
    }

    private static func snapshot(_ text: String, _ lookup: Lookup) throws(JobFailure) -> SnapshotAddress? {
        let marks = text.indices.filter { text[$0] == "@" && $0 != text.startIndex }
        for mark in marks.reversed() {
            let folder = String(text[..<mark])
            let tail = text[text.index(after: mark)...]
            let place = lookup.place(folder)
            guard place == .folder || place == .repository else { continue }
            if let snapshot = SnapshotAddress(folder, behindMark: tail, text, isTime: lookup.isTime) { return snapshot }
            // A new image may have a name that starts like a folder that is no repository.
            guard place == .repository else { continue }
            throw JobFailure(
                .notFound,
                "\(text): \"\(tail)\" names no snapshot; the \"@\" is followed by \(SnapshotAddress.forms)")
        }
        // No such folder. A text with the form of a snapshot address gets an error about the repository.
        guard let mark = marks.last else { return nil }
        return SnapshotAddress(
            String(text[..<mark]), behindMark: text[text.index(after: mark)...], text, isTime: lookup.isTime)
    }

    /// The possible splits of a volume's path into a folder and a snapshot: at the last `@` first, then at earlier
    /// ones, because names of folders and hosts may contain one. For a mounted volume.
    public static func splits(_ path: String) -> [(folder: String, snapshot: String)] {
        path.indices.filter { path[$0] == "@" }.reversed().map { mark in
            (String(path[..<mark]), String(path[path.index(after: mark)...]))
        }
    }
}
