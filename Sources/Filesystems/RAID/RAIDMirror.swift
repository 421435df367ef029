// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// A member of RAID 1 alone: it holds the whole array.
package enum RAIDMirror {
    /// The range of the array in its member; `nil` if the member is of another level, damaged, or no member at all.
    package static func contents(of volume: any BlockReader) throws(BlockIOError) -> ByteRange? {
        guard let container = try RAIDMember.open(volume), container.inner.count == 1,
            let inner = container.inner.first,
            case .segments(let segments) = inner.contents, segments.count == 1
        else { return nil }
        return segments.first?.place
    }
}
