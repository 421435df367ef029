// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A kind of store: a row of `Stores.table`.
package struct StoreKind: Sendable {
    /// The scheme of its addresses: `sftp` in `sftp://host/folder/repo`. `nil` for folders of this machine, whose
    /// addresses are paths.
    package let scheme: String?
    /// Creates the store of an address; the repository need not exist. The cancellation ends waits in the store.
    package let open: @Sendable (String, Cancellation) throws(SystemCallError) -> any PrunableStore

    package init(
        scheme: String?, open: @escaping @Sendable (String, Cancellation) throws(SystemCallError) -> any PrunableStore
    ) {
        self.scheme = scheme
        self.open = open
    }
}

/// The stores that a repository can be in.
package enum Stores {
    package static let table = Registry<StoreKind>([folder])

    private static let folder = StoreKind(scheme: nil) { LocalStore(FilePath($0), cancellation: $1) }

    /// The store of an address: `SCHEME://…` if the scheme is in the table, otherwise a path.
    package static func open(
        _ address: String, cancellation: Cancellation
    ) throws(SystemCallError) -> any PrunableStore {
        try kind(of: address).open(address, cancellation)
    }

    /// Whether the address is the path of a folder.
    package static func isFolder(_ address: String) -> Bool { kind(of: address).scheme == nil }

    /// The address in its usual form: a path without superfluous slashes.
    package static func normalized(_ address: String) -> String {
        isFolder(address) ? FilePath(address).string : address
    }

    /// Whether two addresses lead to one place. Two addresses of a remote store may do so and differ.
    package static func areSame(_ one: String, _ other: String) -> Bool {
        guard isFolder(one), isFolder(other) else { return one == other }
        return Files.realPath(FilePath(one)) == Files.realPath(FilePath(other))
    }

    private static func kind(of address: String) -> StoreKind {
        guard let mark = address.firstRange(of: "://") else { return folder }
        let scheme = address[..<mark.lowerBound]
        return table.rows.first { $0.scheme.map { $0 == scheme } ?? false } ?? folder
    }
}
