// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import DiskModel
import SystemPackage

/// The machine's disks according to sysfs and procfs.
package struct DiskDirectory: Sendable {
    let sys: FilePath
    let proc: FilePath

    /// Reads below `sys` and `proc` (made-up trees in tests).
    package init(sys: FilePath = "/sys", proc: FilePath = "/proc") {
        self.sys = sys
        self.proc = proc
    }

    /// The kernel's names of all disks that can hold data: no loop, RAM, zram or optical devices, none of size 0.
    package func diskNames() -> [String] {
        Files.names(in: sys.appending("block")).filter { name in
            guard !["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd"].contains(where: name.hasPrefix) else {
                return false
            }
            return (byteCount(of: name) ?? 0) > 0
        }
    }

    /// The kernel's names of all block devices, including partitions and mapped ones, except
    /// `disk` and everything on it.
    package func nodeNames(besides disk: String?) -> [String] {
        Files.names(in: sys.appending("class/block")).filter { name in
            guard let disk else { return true }
            return !lies(name, on: disk, depth: 8)
        }
    }

    private func lies(_ name: String, on disk: String, depth: Int) -> Bool {
        let whole = wholeDisk(of: name)
        if whole == disk { return true }
        guard depth > 0 else { return false }
        return Files.names(in: sys.appending("block/\(whole)/slaves")).contains { lies($0, on: disk, depth: depth - 1) }
    }

    /// The size in bytes (sysfs counts in 512-byte units, whatever the sector size).
    package func byteCount(of name: String) -> UInt64? {
        Files.text(sys.appending("block/\(name)/size")).flatMap { UInt64($0) }.map { $0 &* 512 }
    }

    /// The kernel's name of the whole disk at `path`, or of the disk of that partition; `nil` for files.
    package func kernelName(ofDevice number: UInt64) -> String? {
        let link = sys.appending("dev/block/\(rf_major(number)):\(rf_minor(number))")
        return Files.realPath(link)?.lastComponent?.string
    }

    /// The disk that a partition belongs to; the name itself for a whole disk.
    package func wholeDisk(of name: String) -> String {
        guard let real = Files.realPath(sys.appending("class/block/\(name)")) else { return name }
        guard Files.exists(real.appending("partition")) else { return name }
        return real.removingLastComponent().lastComponent?.string ?? name
    }

    /// The names of a disk's partition nodes, with their numbers and ranges.
    package func partitionNodes(of disk: String) -> [(name: String, number: Int, range: ByteRange)] {
        Files.names(in: sys.appending("block/\(disk)")).compactMap { name in
            let folder = sys.appending("block/\(disk)/\(name)")
            guard let number = Files.text(folder.appending("partition")).flatMap({ Int($0) }),
                let start = Files.text(folder.appending("start")).flatMap({ UInt64($0) }),
                let count = Files.text(folder.appending("size")).flatMap({ UInt64($0) }),
                let range = ByteRange(offset: start &* 512, byteCount: count &* 512)
            else { return nil }
            return (name, number, range)
        }
    }

    package func identity(path: FilePath, kernelName: String?, diskSequence: UInt64?) -> DiskIdentity {
        guard let kernelName else { return DiskIdentity(path: path.string, transport: "file") }
        let folder = sys.appending("block/\(kernelName)")
        func attribute(_ names: String...) -> String? {
            for name in names {
                guard let text = Files.text(folder.appending(name)) else { continue }
                let trimmed = text.trimmed
                if !trimmed.isEmpty { return trimmed }
            }
            return nil
        }
        // virtio-blk has its serial at the disk, NVMe and MMC at the device, SCSI in VPD page 0x80 (SPC-4 §7.8.14: a
        // header of 4 bytes).
        var serial = attribute("serial", "device/serial")
        if serial == nil, let page = try? Files.read(folder.appending("device/vpd_pg80")), page.count > 4 {
            let text = String(decoding: page[4...].prefix { $0 != 0 }, as: UTF8.self).trimmed
            serial = text.isEmpty ? nil : text
        }
        if serial == nil, kernelName.hasPrefix("sd") { serial = usbSerial(folder) }
        return DiskIdentity(
            path: path.string, kernelName: kernelName,
            model: [attribute("device/vendor"), attribute("device/model")].compactMap { $0 }
                .filter { !$0.hasPrefix("0x") && $0 != "ATA" }.joined(separator: " ").nonEmpty,
            serial: serial, wwn: attribute("wwid", "device/wwid"), transport: transport(of: kernelName),
            diskSequence: diskSequence, pathByPlace: pathByPlace(of: kernelName))
    }

    /// The serial number of the USB device above a disk.
    private func usbSerial(_ folder: FilePath) -> String? {
        guard var place = Files.realPath(folder.appending("device")) else { return nil }
        while place.components.count > 3 {
            place.removeLastComponent()
            if Files.exists(place.appending("idVendor")) {
                return Files.text(place.appending("serial"))?.trimmed.nonEmpty
            }
        }
        return nil
    }

    private func transport(of name: String) -> String {
        if name.hasPrefix("loop") { return "loop" }
        if name.hasPrefix("nvme") { return "nvme" }
        if name.hasPrefix("mmcblk") { return "mmc" }
        let place = Files.realPath(sys.appending("block/\(name)"))?.string ?? ""
        if place.contains("/usb") { return "usb" }
        if name.hasPrefix("vd") || place.contains("/virtio") { return "virtio" }
        if place.contains("/ata") { return "sata" }
        return name.hasPrefix("sd") ? "scsi" : "unknown"
    }

    /// Whether a disk is removable: the kernel or firmware says so, it is attached by USB or FireWire, or it is an SD
    /// card. eMMC (type `MMC`) is soldered in and counts as internal.
    package func isRemovable(_ name: String) -> Bool {
        if Files.text(sys.appending("block/\(name)/removable"))?.trimmed == "1" { return true }
        if isInRemovablePlace(name) { return true }
        switch transport(of: name) {
        case "usb": return true
        case "mmc": return Files.text(sys.appending("block/\(name)/device/type"))?.trimmed != "MMC"
        default: return false
        }
    }

    /// Whether firmware marks a port above the disk as removable while the machine runs: a Thunderbolt enclosure is
    /// PCI, like soldered devices (Documentation/ABI/testing/sysfs-devices-removable, Linux 5.14).
    private func isInRemovablePlace(_ name: String) -> Bool {
        guard var place = Files.realPath(sys.appending("block/\(name)/device")) else { return false }
        while place.components.count > sys.components.count + 1 {
            if Files.text(place.appending("removable"))?.trimmed == "removable" { return true }
            place.removeLastComponent()
        }
        return false
    }

    /// Whether a driver still brings up disks: a module that initialises, an NVMe controller that is not live yet.
    package var isProbing: Bool {
        let modules = sys.appending("module")
        if Files.names(in: modules).contains(where: {
            Files.text(modules.appending("\($0)/initstate"))?.trimmed == "coming"
        }) {
            return true
        }
        let controllers = sys.appending("class/nvme")
        return Files.names(in: controllers).contains { name in
            // Documentation/ABI and drivers/nvme/host/core.c: new, connecting, resetting lead to live.
            ["new", "connecting", "resetting"].contains(
                Files.text(controllers.appending("\(name)/state"))?.trimmed ?? "")
        }
    }

    /// The location of a disk in the machine in the form of /dev/disk/by-path (udev's path_id), computed from sysfs
    /// since the recovery environment has no udev. Parts: the PCI address, then the devices below it.
    package func pathByPlace(of name: String) -> String? {
        guard let real = Files.realPath(sys.appending("block/\(name)")) else { return nil }
        let parts = real.components.map(\.string)
        guard let pci = parts.last(where: { $0.isPCIAddress }) else { return nil }
        var result = "pci-\(pci)"
        // An NVMe disk: the namespace.
        if name.hasPrefix("nvme"), let namespace = name.split(separator: "n").last.flatMap({ Int($0) }) {
            return result + "-nvme-\(namespace)"
        }
        if let ata = parts.first(where: { $0.hasPrefix("ata") && Int($0.dropFirst(3)) != nil }) {
            // udev counts ports from 1 within one controller: `port_no` of the ata_port holds that number.
            let base = FilePath("/" + parts.prefix { $0 != ata }.dropFirst().joined(separator: "/"))
            let port = Files.text(base.appending("\(ata)/ata_port/\(ata)/port_no")) ?? String(ata.dropFirst(3))
            result += "-ata-\(port)"
            if let target = parts.last(where: { $0.split(separator: ":").count == 4 }), !target.hasSuffix(":0:0:0"),
                let unit = target.split(separator: ":").dropLast().last, unit != "0"
            {
                result += ".\(unit)"
            }
            return result
        }
        if let interface = parts.last(where: { $0.contains(":") && $0.contains("-") && !$0.hasPrefix("host") }) {
            // 2-1:1.0 -> usb-0:1:1.0
            let pieces = interface.split(separator: "-", maxSplits: 1)
            if pieces.count == 2 { result += "-usb-0:\(pieces[1])" }
        }
        if let address = parts.last(where: { $0.split(separator: ":").count == 4 && !$0.isPCIAddress }) {
            let numbers = address.split(separator: ":").map(String.init)
            // udev writes the host as 0 where the adapter has only one host, which is the usual case.
            result += "-scsi-0:\(numbers[1]):\(numbers[2]):\(numbers[3])"
        }
        return result
    }

    /// The block devices that hold the filesystem in which `path` lies.
    package func nodes(holding path: FilePath) -> [String] {
        guard let status = try? Stat(path), let real = Files.realPath(path) else { return [] }
        if let name = kernelName(ofDevice: UInt64(status.deviceID.rawValue)) { return [name] }
        // Btrfs and others have their own device numbers: the mount table names the source.
        let below = mounts.filter { mount in
            mount.mountPoint == "/" || real.string == mount.mountPoint || real.string.hasPrefix(mount.mountPoint + "/")
        }
        // With several mounts on one mount point (systemd's automount, then the filesystem), the last is visible.
        let longest = below.map(\.mountPoint.count).max()
        guard let mount = below.last(where: { $0.mountPoint.count == longest }), let node = node(mount.source)
        else { return [] }
        return btrfsPools.first { $0.contains(node) }.map { $0.sorted() } ?? [node]
    }

    /// The disks below a device (its slaves, recursively, and the whole disks of partitions). They must not be
    /// overwritten while a file on that device is needed.
    package func disksBelow(_ name: String) -> [String] {
        // For a partition of an md or loop device, the devices below that device.
        let whole = wholeDisk(of: name)
        guard whole == name else { return disksBelow(whole) }
        return [name] + nodesBelow(name).flatMap(disksBelow)
    }

    /// The block devices below a whole disk: its slaves, or those that hold a loop device's file.
    /// - Parameter opening: whether devices may be opened, and files looked at; that can last as long as their disks do
    ///   not answer. Without it, the list ends at a loop device's file.
    func nodesBelow(_ name: String, opening: Bool = true) -> [String] {
        let folder = sys.appending("class/block/\(name)")
        let slaves = Files.names(in: folder.appending("slaves"))
        guard slaves.isEmpty, name.hasPrefix("loop"), let backing = Files.text(folder.appending("loop/backing_file"))
        else { return slaves }
        guard opening else {
            let base = FilePath(backing).lastComponent?.string ?? ""
            return backing.hasPrefix("/dev/") && Files.exists(sys.appending("class/block/\(base)/size")) ? [base] : []
        }
        // For a node below /dev, the filesystem that holds the node is irrelevant.
        if let base = self.backing(ofLoop: name), base.isDevice {
            return [kernelName(ofDevice: base.device)].compactMap { $0 }
        }
        return nodes(holding: FilePath(backing))
    }
}

extension String {
    /// Without leading and trailing white space.
    package var trimmed: String {
        var view = Substring(self)
        while let first = view.first, first.isWhitespace { view.removeFirst() }
        while let last = view.last, last.isWhitespace { view.removeLast() }
        return String(view)
    }
    var nonEmpty: String? { isEmpty ? nil : self }
    /// `0000:00:04.0`
    var isPCIAddress: Bool {
        let parts = split(separator: ":")
        return parts.count == 3 && parts[0].count == 4 && parts[1].count == 2 && parts[2].contains(".")
    }
}
