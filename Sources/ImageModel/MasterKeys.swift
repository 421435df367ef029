// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs

/// The two keys of an encrypted repository. They never change; passwords wrap them.
package struct MasterKeys: Sendable {
    /// The key that seals contents.
    package var data: SecretKey
    /// The key that names contents.
    package var id: SecretKey

    /// From parts.
    package init(data: SecretKey, id: SecretKey) {
        self.data = data
        self.id = id
    }

    /// New keys.
    package static func random() -> MasterKeys { MasterKeys(data: .random(), id: .random()) }
}
