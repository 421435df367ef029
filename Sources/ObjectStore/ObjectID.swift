// SPDX-License-Identifier: GPL-3.0-or-later

/// The kind of an object in a repository. RepositoryFormat.md specifies the contents of each.
package enum ObjectKind: String, Sendable, CaseIterable {
    /// The parameters needed before a password is known. There is one, with an empty name.
    case configuration
    /// The master keys, sealed under a password.
    case key
    /// Contents, with their table.
    case pack
    /// The places of contents.
    case index
    /// A capture of a disk.
    case snapshot
    /// The record that a snapshot was published.
    case publication
    /// The record that a snapshot was forgotten.
    case retirement
    /// A running process.
    case lock
    /// The mark of a pack scheduled for removal.
    case mark
    /// The common data of marks made together.
    case batch
    /// The time of the last forget: only its modification time matters. There is one, with an empty name.
    case forgetting
    /// What a trial restore of a snapshot showed.
    case proof

    /// Whether an object never changes once it exists: it has a random name, or that of its content.
    package var isImmutable: Bool { [.pack, .index, .snapshot, .proof].contains(self) }
}

/// The name of an object; not a path, nor a part of one.
package struct ObjectID: Hashable, Sendable, CustomStringConvertible {
    /// The kind.
    package let kind: ObjectKind
    /// The name among objects of its kind.
    package let name: String

    /// Names an object.
    package init(_ kind: ObjectKind, _ name: String = "") {
        self.kind = kind
        self.name = name
    }

    /// For messages and logs.
    package var description: String { name.isEmpty ? kind.rawValue : "\(kind.rawValue) \(name)" }
}
