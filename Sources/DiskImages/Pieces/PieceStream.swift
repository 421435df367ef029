// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// Files that, joined in order, are one stream. Its compression is found by its magic number.
package struct PieceStream: Sendable {
    package var pieces: [FilePath]

    package init(_ pieces: [FilePath]) { self.pieces = pieces }
}
