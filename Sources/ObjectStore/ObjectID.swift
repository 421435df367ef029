// SPDX-License-Identifier: GPL-3.0-or-later

/// What an object of a repository is. RepositoryFormat.md says what each holds.
package enum ObjectKind: String, Sendable, CaseIterable {
    /// What must be known before a password is. There is one, with an empty name.
    case configuration
    /// The master keys under a password.
    case key
    /// Contents, with their table.
    case pack
    /// Where contents are.
    case index
    /// What a disk was.
    case snapshot
    /// That a snapshot was published.
    case publication
    /// That a snapshot was forgotten.
    case retirement
    /// Who is at work.
    case lock
    /// That a pack is to go.
    case mark
    /// What the marks that were made at once have in common.
    case batch
    /// When something was forgotten last: its time is all that it says. There is one, with an empty name.
    case forgetting

    /// Whether an object never changes once it is there: it has a random name, or that of its content.
    package var isImmutable: Bool { [.pack, .index, .snapshot].contains(self) }
}

/// The name of an object: no path, and no part of one.
package struct ObjectID: Hashable, Sendable, CustomStringConvertible {
    /// What it is.
    package let kind: ObjectKind
    /// Its name among those of its kind.
    package let name: String

    /// Names an object.
    package init(_ kind: ObjectKind, _ name: String = "") {
        self.kind = kind
        self.name = name
    }

    /// For messages and logs.
    package var description: String { name.isEmpty ? kind.rawValue : "\(kind.rawValue) \(name)" }
}
