// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// The two keys of an encrypted repository. They never change; passwords wrap them.
public struct MasterKeys: Sendable {
    /// What contents are sealed under.
    public var data: SecretKey
    /// What contents are named under.
    public var id: SecretKey

    /// From parts.
    public init(data: SecretKey, id: SecretKey) {
        self.data = data
        self.id = id
    }

    /// New keys.
    public static func random() -> MasterKeys { MasterKeys(data: .random(), id: .random()) }
}
