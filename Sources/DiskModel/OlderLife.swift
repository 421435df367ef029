// SPDX-License-Identifier: GPL-3.0-or-later

/// The work that a restored filesystem needs because of older content at its place: the unused blocks may hold
/// metadata that the same filesystem wrote at another time, before or after the capture.
///
/// The present content of the place proves nothing: older content may remain under younger content of another kind.
package enum OlderLife: Sendable {
    /// None: no recovery of this format reads, or fails on, blocks that are not in use.
    case harmless
    /// Its log gets a cycle newer than every block on the disk.
    case newerLog
    /// Its unused ranges are zeroed.
    case cleared
}
