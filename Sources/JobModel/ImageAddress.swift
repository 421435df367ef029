// SPDX-License-Identifier: GPL-3.0-or-later

/// Where an image, a snapshot or a repository is, or is to be: the one form in which commands, the menu, the kernel command line and
/// `reforge.json` name it.
public enum ImageAddress: Hashable, Sendable, CustomStringConvertible {
    /// Standard input or output.
    case stream
    /// A file or folder of this machine.
    case path(String)
    /// A snapshot of a repository in a folder of this machine, or that repository.
    case snapshot(SnapshotAddress)
    /// A file on a volume of this machine that may not be mounted. The path starts with `/` and is the volume's own; it may name a
    /// snapshot (`/folder@latest`) or a repository (`/folder@`).
    case volume(VolumeName, path: String)
    /// `http://host[:port]/path`, as it was written.
    case http(String)

    /// How a volume is named.
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

    /// What a path is.
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

    /// What the parser asks about the machine and the calendar, as it looks at nothing itself.
    public struct Lookup: Sendable {
        /// What a path is. What cannot be looked at counts as nothing.
        public var place: @Sendable (String) -> Place
        /// Whether a text is a time, such as `2026-11-22T15:00`.
        public var isTime: @Sendable (String) -> Bool

        /// Names both.
        public init(place: @escaping @Sendable (String) -> Place, isTime: @escaping @Sendable (String) -> Bool) {
            self.place = place
            self.isTime = isTime
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

    /// Whether it takes the network to reach it.
    public var needsNetwork: Bool {
        if case .http = self { true } else { false }
    }

    // MARK: On this machine

    /// Reads what a command is given: `-`, a path, or `REPO@…`.
    ///
    /// A file or folder that has all of the text as its name is meant as such. Else the "@" that counts is the last one with a folder
    /// before it, as folders and hosts may have one in their names.
    /// - Throws: status 66 where a repository stands before the "@" and nothing sensible behind it.
    public static func parse(_ text: String, _ lookup: Lookup) throws(JobFailure) -> ImageAddress {
        if text == "-" { return .stream }
        guard lookup.place(text) == .nothing, let snapshot = try snapshot(text, lookup) else { return .path(text) }
        return .snapshot(snapshot)
    }

    /// The snapshot that a text names as well, where a file or folder has that name; for a notice, as `parse` takes the file.
    public static func hiddenSnapshot(by text: String, _ lookup: Lookup) -> SnapshotAddress? {
        guard lookup.place(text) != .nothing, let snapshot = try? snapshot(text, lookup),
            lookup.place(snapshot.repository) == .repository
        else { return nil }
        return snapshot
    }

    private static func snapshot(_ text: String, _ lookup: Lookup) throws(JobFailure) -> SnapshotAddress? {
        let marks = text.indices.filter { text[$0] == "@" && $0 != text.startIndex }
        for mark in marks.reversed() {
            let folder = String(text[..<mark])
            let tail = text[text.index(after: mark)...]
            let place = lookup.place(folder)
            guard place == .folder || place == .repository else { continue }
            if let snapshot = SnapshotAddress(folder, behindMark: tail, text, isTime: lookup.isTime) { return snapshot }
            // A folder that is no repository may well have a namesake: an image that is to be made.
            guard place == .repository else { continue }
            throw JobFailure(
                .notFound,
                "\(text): \"\(tail)\" names no snapshot; behind the \"@\" stands \(SnapshotAddress.forms)")
        }
        // No such folder. What looks like a snapshot in spite of it deserves an error about the repository.
        guard let mark = marks.last else { return nil }
        return SnapshotAddress(
            String(text[..<mark]), behindMark: text[text.index(after: mark)...], text, isTime: lookup.isTime)
    }

    /// The folders and what follows them that a path of a volume can mean: at its last `@`, then at those before it, as folders and
    /// hosts may have one in their names. For a volume that is mounted by now.
    public static func splits(_ path: String) -> [(folder: String, snapshot: String)] {
        path.indices.filter { path[$0] == "@" }.reversed().map { mark in
            (String(path[..<mark]), String(path[path.index(after: mark)...]))
        }
    }
}
