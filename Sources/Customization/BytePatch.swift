// SPDX-License-Identifier: GPL-3.0-or-later

/// Bytes of a volume to be replaced, with the bytes that are expected there.
package struct BytePatch: Equatable, Sendable {
    /// The offset from the start of the volume, in bytes.
    package var offset: UInt64
    package var from: [UInt8]
    package var to: [UInt8]

    package init(offset: UInt64, from: [UInt8], to: [UInt8]) {
        self.offset = offset
        self.from = from
        self.to = to
    }
}
