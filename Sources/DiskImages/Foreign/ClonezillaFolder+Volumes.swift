// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import ImageModel

extension ClonezillaFolder {
    /// Adds what the folder has of a partition or a bare disk: its own image, or that of the LUKS volume in it, or the
    /// logical volumes in it.
    func add(_ device: String, at range: ByteRange, to builder: inout ForeignDiskBuilder) throws(ImageError) {
        if let content = try contents.content(of: device) {
            builder.add(device, [range], content)
            return
        }
        let mappers = try openedNames(of: device)
        for name in mappers {
            guard let content = try contents.content(of: name) else { continue }
            warnOfPlainText(device, &builder)
            builder.add(device, [range], content)
            return
        }
        if let volume = try physicalVolume([device] + mappers.flatMap { [$0, "mapper/\($0)"] }) {
            if !mappers.isEmpty { warnOfPlainText(device, &builder) }
            try addGroup(volume, device, at: range, to: &builder)
            return
        }
        builder.add(device, [range], .missing(reason: try reasonForNone(device)))
    }

    private func warnOfPlainText(_ device: String, _ builder: inout ForeignDiskBuilder) {
        builder.warn(
            "\(device) was encrypted (LUKS), and Clonezilla saved what is in it, decrypted: the restored partition is "
                + "not encrypted. Remove it from /etc/crypttab of the restored system, and name its filesystem by its "
                + "UUID in /etc/fstab")
    }

    /// The names that opened LUKS volumes of a device had: images are named after them.
    private func openedNames(of device: String) throws(ImageError) -> [String] {
        var names: [String] = []
        for line in try folder.lines("luks-dev.list") where line.count >= 3 && Self.kernelName(line[0]) == device {
            let name = Self.kernelName(line[2])
            names.append(name.hasPrefix("mapper/") ? String(name.dropFirst(7)) : name)
        }
        return names
    }

    static func kernelName(_ path: String) -> String {
        path.hasPrefix("/dev/") ? String(path.dropFirst(5)) : path
    }

    private func reasonForNone(_ device: String) throws(ImageError) -> String {
        for line in try folder.lines("dev-fs.list") where line.count >= 2 && Self.kernelName(line[0]) == device {
            return "the folder has no image of it (it was \(line[1]))"
        }
        return "the folder has no image of it"
    }

    // MARK: LVM

    /// A row of `lvm_vg_dev.list`: the group, the device and the id of a physical volume.
    private struct PhysicalVolumeRow {
        var group: String
        var id: String
    }

    private func physicalVolume(_ devices: [String]) throws(ImageError) -> PhysicalVolumeRow? {
        for line in try folder.lines("lvm_vg_dev.list") where line.count >= 3 {
            if devices.contains(Self.kernelName(line[1])) { return PhysicalVolumeRow(group: line[0], id: line[2]) }
        }
        return nil
    }

    /// The length of the disk that a physical volume fills, as its group has it.
    func physicalVolumeByteCount(_ devices: [String]) throws(ImageError) -> UInt64? {
        guard let volume = try physicalVolume(devices), let text = try folder.bytes("lvm_\(volume.group).conf") else {
            return nil
        }
        let id = volume.id.filter { $0 != "-" }
        let disks: [(id: String, byteCount: UInt64?)]
        do { disks = try LVMBackup.disks(in: text) } catch {
            throw folder.damage("lvm_\(volume.group).conf", "\(error)")
        }
        // Whole sectors, whatever the text has.
        return disks.first { $0.id == id }?.byteCount.map { $0.roundedDown(toMultipleOf: 512) }
    }

    private func addGroup(
        _ volume: PhysicalVolumeRow, _ device: String, at range: ByteRange, to builder: inout ForeignDiskBuilder
    ) throws(ImageError) {
        guard let text = try folder.bytes("lvm_\(volume.group).conf") else {
            let reason =
                volume.group == "/NOT_FOUND"
                ? "it is a physical volume of LVM that belongs to no group, of which nothing is saved"
                : "the metadata of its volume group (lvm_\(volume.group).conf) is not in the folder"
            builder.add(device, [range], .missing(reason: reason))
            return
        }
        let shared = try sharedNames()
        try builder.addPhysicalVolume(device, at: range, id: volume.id, text: text) { group, name throws(ImageError) in
            let file = "\(group)-\(name)"
            if shared.contains(file) {
                return .missing(reason: "another logical volume has the same name in the folder, \(file)")
            }
            return try contents.content(of: file) ?? .missing(reason: "the folder has no image of it")
        }
    }

    /// The names in the folder that two logical volumes share: `a-b-c` is `a/b-c` and `a-b/c`.
    private func sharedNames() throws(ImageError) -> Set<String> {
        var seen: Set<String> = []
        var shared: Set<String> = []
        var devices: Set<String> = []
        for line in try folder.lines("lvm_logv.list") {
            let device = Self.kernelName(line[0])
            guard devices.insert(device).inserted else { continue }
            let name = ClonezillaContents.fileName(device)
            if !seen.insert(name).inserted { shared.insert(name) }
        }
        return shared
    }
}
