// SPDX-License-Identifier: GPL-3.0-or-later

/// The file of a disk that a machine may write to. It must not be in use, or hold the only copy of anything.
package struct WritableDisk: Equatable, Sendable {
    /// JSON objects, one a block node of QEMU, each after the nodes it refers to. The last one has the node name `disk`.
    package var nodes: [String]
    package var logicalSectorSize: Int

    package init(nodes: [String], logicalSectorSize: Int) {
        self.nodes = nodes
        self.logicalSectorSize = logicalSectorSize
    }
}
