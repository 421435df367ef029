// SPDX-License-Identifier: GPL-3.0-or-later

/// The size of a disk and its sector sizes.
package struct DiskGeometry: Codable, Equatable, Sendable {
    /// The length of the disk in bytes.
    package var byteCount: UInt64
    /// The unit of addresses in bytes: 512 or 4096.
    package var logicalSectorSize: Int
    /// The unit that the medium writes at once, in bytes.
    package var physicalSectorSize: Int
    /// How far the first physical sector boundary is from the start, in bytes.
    package var alignmentOffset: Int
    /// The optimal I/O size in bytes; 0 if the device reports none.
    package var optimalIOSize: Int

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

    /// The alignment of partition starts in bytes: 1 MiB, or the optimal I/O size where that is a larger multiple of 1
    /// MiB. Odd sizes invented by USB bridges (such as 33,553,920) are ignored.
    package var partitionAlignment: UInt64 {
        let mebibyte: UInt64 = 1 << 20
        let optimal = UInt64(max(0, optimalIOSize))
        return optimal > mebibyte && optimal % mebibyte == 0 && optimal <= 1 << 30 ? optimal : mebibyte
    }
}

/// Identifies a disk. Serial numbers repeat, so all fields count, together with the size.
package struct DiskIdentity: Codable, Equatable, Sendable {
    /// The path given for it.
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
    /// The kernel's sequence number of this attachment of this disk (Linux 5.15 and newer); never reused in one boot.
    package var diskSequence: UInt64?
    /// The stable path of its location in the machine (as in /dev/disk/by-path), computed from sysfs.
    package var pathByPlace: String?

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

    /// The text that confirms overwriting this disk: the serial number, else the name.
    package var confirmationText: String { serial.flatMap { $0.isEmpty ? nil : $0 } ?? kernelName ?? path }
}
