// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A disk that an `NBDServer` serves: read at any offset, by several threads.
package protocol ServedDisk: BlockReader {
    /// What `range`, which is not empty, holds: consecutive extents from its start on, at least one, possibly fewer than
    /// cover all of it.
    func extents(in range: ByteRange) throws(BlockIOError) -> [DiskExtent]
}

/// A run of bytes with one kind of content.
package struct DiskExtent: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case data
        /// Known to be zeros.
        case zero
        /// Not in use by the captured system; reads as zeros.
        case unused
    }

    package var byteCount: UInt64
    package var kind: Kind

    package init(_ kind: Kind, byteCount: UInt64) {
        self.kind = kind
        self.byteCount = byteCount
    }
}
