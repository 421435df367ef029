// SPDX-License-Identifier: GPL-3.0-or-later

/// The size of a disk and the units that it is addressed in.
package struct DiskGeometry: Codable, Equatable, Sendable {
    /// The length of the disk in bytes.
    package var byteCount: UInt64
    /// The unit of addresses in bytes: 512 or 4096.
    package var logicalSectorSize: Int
    /// The unit that the medium writes at once, in bytes.
    package var physicalSectorSize: Int
    /// How far the first physical sector boundary is from the start, in bytes.
    package var alignmentOffset: Int
    /// The optimal size of an I/O in bytes; 0 where the device names none.
    package var optimalIOSize: Int

    /// Describes a disk's size and units.
    package init(
        byteCount: UInt64, logicalSectorSize: Int = 512, physicalSectorSize: Int = 512, alignmentOffset: Int = 0,
        optimalIOSize: Int = 0
    ) {
        self.byteCount = byteCount
        self.logicalSectorSize = logicalSectorSize
        self.physicalSectorSize = physicalSectorSize
        self.alignmentOffset = alignmentOffset
        self.optimalIOSize = optimalIOSize
    }

    /// The boundary on which partitions start, in bytes: 1 MiB, or the optimal I/O size where that is a larger multiple
    /// of 1 MiB. Odd sizes that USB bridges make up (such as 33,553,920) are not followed.
    package var partitionAlignment: UInt64 {
        let mebibyte: UInt64 = 1 << 20
        let optimal = UInt64(max(0, optimalIOSize))
        return optimal > mebibyte && optimal % mebibyte == 0 && optimal <= 1 << 30 ? optimal : mebibyte
    }
}

/// What tells one disk from another. Serials repeat, so all of it together with the size counts.
package struct DiskIdentity: Codable, Equatable, Sendable {
    /// The path by which it was named.
    package var path: String
    /// The kernel's name (`sda`, `nvme0n1`); `nil` for a file.
    package var kernelName: String?
    /// The model, as the device reports it.
    package var model: String?
    /// The serial number, as the device reports it.
    package var serial: String?
    /// The World Wide Name (or EUI, NGUID, UUID of NVMe), as sysfs shows it.
    package var wwn: String?
    /// How it is attached: `nvme`, `sata`, `usb`, `virtio`, `scsi`, `mmc`, `file`, `loop`, `unknown`.
    package var transport: String
    /// The kernel's number for this attachment of this disk (Linux 5.15 and newer); never used twice in one boot.
    package var diskSequence: UInt64?
    /// The stable path by its place in the machine (as /dev/disk/by-path shows it); computed from sysfs.
    package var pathByPlace: String?

    /// Describes a disk.
    package init(
        path: String, kernelName: String? = nil, model: String? = nil, serial: String? = nil, wwn: String? = nil,
        transport: String = "unknown", diskSequence: UInt64? = nil, pathByPlace: String? = nil
    ) {
        self.path = path
        self.kernelName = kernelName
        self.model = model
        self.serial = serial
        self.wwn = wwn
        self.transport = transport
        self.diskSequence = diskSequence
        self.pathByPlace = pathByPlace
    }

    /// What a person types to confirm that this disk may be overwritten: the serial, else the name.
    package var confirmationText: String { serial.flatMap { $0.isEmpty ? nil : $0 } ?? kernelName ?? path }
}
