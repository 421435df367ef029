// SPDX-License-Identifier: GPL-3.0-or-later

/// What a restored filesystem needs done about an older life of its place: the unused blocks may hold metadata that the
/// same filesystem wrote there at another time, before or after the capture.
///
/// What the place seems to hold now proves nothing: an older life may lie under a younger one of something else.
package enum OlderLife: Sendable {
    /// Nothing: no recovery of this format reads, or is stopped by, blocks that are not in use.
    case harmless
    /// Its log gets a cycle newer than every block on the disk.
    case newerLog
    /// Its unused ranges are made zero.
    case cleared
}
