// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import SystemAccess

/// Resolves the entries of an fstab to partitions of its disk.
///
/// A device name (`/dev/sda3`) is not meaningful on another machine, and may denote another disk. It is resolved only
/// if its disk is clearly the captured one, and the partition of that number matches the entry.
package struct FstabResolver: Sendable {
    private let volumes: [BootVolume]
    private let rootPartition: Int?
    private let capturedDiskName: String?
    private let capturedPartUUIDs: [String: Int]

    /// - Parameters:
    ///   - rootPartition: the number of the partition that holds this fstab.
    ///   - capturedDiskName: the kernel's name of the disk when it was captured, if known.
    ///   - capturedPartUUIDs: see `BootRepairOptions`.
    package init(
        volumes: [BootVolume], rootPartition: Int?, capturedDiskName: String? = nil,
        capturedPartUUIDs: [String: Int] = [:]
    ) {
        self.capturedPartUUIDs = capturedPartUUIDs
        self.volumes = volumes
        self.rootPartition = rootPartition
        self.capturedDiskName = capturedDiskName
    }

    /// The entries with their targets.
    package func resolve(_ entries: [FstabEntry]) -> [FstabEntry] {
        let trusted = capturedDisks(entries)
        let signatures = capturedSignatures(entries)
        return entries.map { entry in
            var entry = entry
            entry.resolution = resolution(of: entry, trusted, signatures)
            return entry
        }
    }

    private func resolution(
        of entry: FstabEntry, _ trusted: Set<String>, _ signatures: Set<String>
    ) -> FstabResolution {
        if let (tag, value) = Self.tag(entry.device) {
            if let number = partition(tag, value) { return .here(partition: number) }
            // The partition that had this PARTUUID in the captured MBR.
            if tag == "PARTUUID", let number = capturedPartUUIDs[value.lowercased()], fits(entry, number) {
                return .moved(partition: number)
            }
            if tag == "PARTUUID", let name = MBRPartitionName(partUUID: value), signatures.contains(name.signature),
                fits(entry, name.number)
            {
                return .moved(partition: name.number)
            }
            return .elsewhere
        }
        guard entry.device.hasPrefix("/dev/") else { return .noDevice }
        // Groups and logical volumes keep their names.
        if let volume = volumes.first(where: { $0.mapperPaths.contains(entry.device) }) {
            return .here(partition: volume.number)
        }
        // What is in LUKS or on an array has a name of the system's own.
        if entry.mountPoint == "/",
            volumes.contains(where: { $0.number == rootPartition && $0.mayBeNamed(entry.device) })
        {
            return .here(partition: rootPartition ?? 0)
        }
        guard let name = DevicePartitionName(entry.device), trusted.contains(name.disk), fits(entry, name.number) else {
            return .elsewhere
        }
        return .moved(partition: name.number)
    }

    /// The signatures of the captured MBR, as far as an entry for `/` with the root partition's number shows them: boot
    /// repair that comes later than the restore does not know the captured table.
    private func capturedSignatures(_ entries: [FstabEntry]) -> Set<String> {
        Set(
            entries.compactMap { entry in
                guard entry.mountPoint == "/", let (tag, value) = Self.tag(entry.device), tag == "PARTUUID",
                    let name = MBRPartitionName(partUUID: value), name.number == rootPartition
                else { return nil }
                return name.signature
            })
    }

    /// The disks named in `entries` that must be the captured one.
    private func capturedDisks(_ entries: [FstabEntry]) -> Set<String> {
        var groups: [String: [(entry: FstabEntry, number: Int)]] = [:]
        for entry in entries where Self.tag(entry.device) == nil {
            guard let name = DevicePartitionName(entry.device) else { continue }
            groups[name.disk, default: []].append((entry, name.number))
        }
        // A disk whose entry for `/` has the root partition's number is the captured disk.
        let ofRoot = groups.filter { $0.value.contains { $0.entry.mountPoint == "/" && $0.number == rootPartition } }
        if !ofRoot.isEmpty { return Set(ofRoot.keys) }
        if let capturedDiskName, groups[capturedDiskName] != nil { return [capturedDiskName] }
        // Else the only disk whose entries all match.
        let fitting = groups.filter { $0.value.allSatisfy { fits($0.entry, $0.number) && $0.entry.mountPoint != "/" } }
        return fitting.count == 1 ? Set(fitting.keys) : []
    }

    private func fits(_ entry: FstabEntry, _ number: Int) -> Bool {
        // A logical volume has an artificial number, which no partition name denotes.
        let volume = volumes.first { $0.number == number && $0.isPartition }
        guard let volume, volume.uuid != nil else { return false }
        return volume.matches(fstabType: entry.type) && (entry.mountPoint != "/" || number == rootPartition)
    }

    private func partition(_ tag: String, _ value: String) -> Int? {
        volumes.first { volume in
            switch tag {
            case "UUID": volume.uuid?.lowercased() == value.lowercased()
            case "PARTUUID": volume.partUUID == value.lowercased()
            case "LABEL": volume.label == value
            case "PARTLABEL": volume.name == value
            default: false
            }
        }?.number
    }

    /// `UUID=…`, `LABEL="…"`, `/dev/disk/by-uuid/…` and so on as a tag and its value.
    private static func tag(_ device: String) -> (tag: String, value: String)? {
        for tag in ["UUID", "PARTUUID", "LABEL", "PARTLABEL"] {
            for prefix in ["\(tag)=", "/dev/disk/by-\(tag.lowercased())/"] where device.hasPrefix(prefix) {
                return (tag, String(device.dropFirst(prefix.count).filter { $0 != "\"" }))
            }
        }
        return nil
    }
}

/// A parsed partition device name: `/dev/sda3` is `sda` and 3.
struct DevicePartitionName: Equatable {
    /// The disk: `sda`, `nvme0n1`, `disk/by-id/ata-…`.
    let disk: String
    /// The partition's number.
    let number: Int

    /// `nil` for whole disks, device-mapper, md and non-device paths.
    init?(_ path: String) {
        guard path.hasPrefix("/dev/") else { return nil }
        let name = path.dropFirst(5)
        let digits = String(name.reversed().prefix { $0.isASCII && $0.isNumber }.reversed())
        guard let number = Int(digits), number > 0 else { return nil }
        var disk = name.dropLast(digits.count)
        if name.hasPrefix("disk/by-id/") || name.hasPrefix("disk/by-path/") {
            guard disk.hasSuffix("-part") else { return nil }
            disk = disk.dropLast(5)
        } else if ["nvme", "mmcblk", "nbd", "loop"].contains(where: name.hasPrefix) {
            guard disk.hasSuffix("p"), disk.dropLast().last?.isNumber == true else { return nil }
            disk = disk.dropLast()
        } else {
            guard let prefix = ["sd", "hd", "vd", "xvd"].first(where: name.hasPrefix),
                disk.count > prefix.count, disk.dropFirst(prefix.count).allSatisfy({ $0.isLetter && $0.isASCII })
            else { return nil }
        }
        self.disk = String(disk)
        self.number = number
    }
}
