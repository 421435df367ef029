// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// A volume that the agent found on a disk.
package struct AgentVolume: Equatable, Sendable {
    /// For `ApplianceSession.mount`.
    package var id: UInt32
    /// The position of its disk in the session's list, from 0.
    package var disk: UInt32
    /// The partition that holds it; 0 on a disk without a table.
    package var partition: UInt32
    /// `group/name` of a logical volume; empty otherwise.
    package var logicalVolume: String
    /// What was opened to reach it, from the outside in: `LUKS`, `md`.
    package var layers: [String]
    /// libblkid's name of its contents; empty if unknown.
    package var kindName: String
    package var uuid: String
    package var label: String
    package var byteCount: UInt64
    /// Why it cannot be mounted, as a sentence; empty if that is not known to fail.
    package var obstacle: String

    package init(id: UInt32, disk: UInt32, partition: UInt32, byteCount: UInt64) {
        (self.id, self.disk, self.partition, self.byteCount) = (id, disk, partition, byteCount)
        (logicalVolume, kindName, uuid, label, obstacle, layers) = ("", "", "", "", "", [])
    }

    /// Its name in front of the colon of a path.
    package var name: String { logicalVolume.isEmpty ? String(partition) : logicalVolume }

    /// Whether it may hold files.
    package var isMountable: Bool {
        obstacle.isEmpty && !kindName.isEmpty && !Self.withoutFiles.contains(kindName)
    }

    private static let withoutFiles: Set<String> = [
        "swap", "LVM2_member", "crypto_LUKS", "linux_raid_member", "BitLocker", "zfs_member", "swsuspend",
    ]

    /// Of the texts, in their order.
    private static let limits = [512, 512, 256, 256, 1024, AgentText.usualLimit]

    func write(to bytes: inout AgentBytes) {
        for number in [id, disk, partition] { bytes.put(number) }
        bytes.put(byteCount)
        let texts = [logicalVolume, layers.joined(separator: ","), kindName, uuid, label, obstacle]
        for (text, limit) in zip(texts, Self.limits) { bytes.put(text, limit: limit) }
    }

    init(_ reader: inout AgentBytesReader) throws(ApplianceError) {
        (id, disk, partition) = (try reader.number(), try reader.number(), try reader.number())
        byteCount = try reader.number()
        var texts: [String] = []
        for limit in Self.limits { texts.append(try reader.text(limit: limit)) }
        (logicalVolume, kindName, uuid, label, obstacle) = (texts[0], texts[2], texts[3], texts[4], texts[5])
        layers = texts[1].split(separator: ",").map(String.init)
    }
}
