// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import DiskModel
import SystemPackage

/// Users of a disk: mounts from it in any mount namespace, swap, holders, and devices attached over it. The
/// only place that checks this.
extension DiskDirectory {
    /// Why a disk may not be overwritten or may change during a read. Empty if it is not in use.
    package func uses(of disk: String) -> [DiskUse] { uses(of: disk, notThrough: []) }

    /// Uses of a disk, without those that are reached only through some holders.
    /// - Parameter stopped: the kernel's names of these holders.
    package func uses(of disk: String, notThrough stopped: Set<String>) -> [DiskUse] {
        UseSearch(self, stopped).uses(of: disk)
    }

    /// Why an opened disk or file may not be overwritten or may change during a read. Includes uses through
    /// loop devices over it and, for a loop device, uses through other loop devices over the same bytes and
    /// through its backing disk.
    package func uses(of device: BlockDevice) -> [DiskUse] {
        let name = device.isDevice ? kernelName(ofDevice: device.deviceNumber) : nil
        let search = UseSearch(self, [])
        func uses(over node: String, _ loops: [String]) -> [DiskUse] {
            loops.flatMap { loop in
                let uses = search.uses(of: loop)
                return uses.isEmpty ? [.held(node: node, by: "/dev/\(loop)", kernelName: loop)] : uses
            }
        }
        var found =
            (name.map { search.uses(of: $0) } ?? []) + uses(over: name ?? device.path.string, loopDevices(over: device))
        for base in loopBases(of: device) {
            found += uses(over: base.path.string, base.otherLoops)
            if let node = base.kernelName { found += search.uses(of: node, within: base.range) }
        }
        return found
    }

    /// The nodes of a disk that can be opened, the disk first: its partitions, devices stacked on them,
    /// and loop devices over it.
    func openedNodes(on device: BlockDevice) -> [BlockDevice] {
        let name = device.isDevice ? kernelName(ofDevice: device.deviceNumber) : nil
        let names = ([name].compactMap { $0 } + loopDevices(over: device)).flatMap { nodes(on: $0, depth: 8) }
        return [device]
            + names.filter { $0 != name }.compactMap { try? BlockDevice(opening: FilePath("/dev/\($0)")) }
    }

    private func nodes(on disk: String, depth: Int) -> [String] {
        guard depth > 0 else { return [] }
        let nodes = [disk] + partitionNodes(of: disk).map(\.name)
        return nodes
            + nodes.flatMap { Files.names(in: sys.appending("class/block/\($0)/holders")) }
            .flatMap { self.nodes(on: $0, depth: depth - 1) }
    }

    /// Sectors written to and discarded on a device since it appeared, in units of 512 bytes
    /// (Documentation/block/stat.rst: the fields 7 and 14).
    func sectorsWritten(to name: String) -> UInt64? {
        let fields = (Files.text(sys.appending("class/block/\(name)/stat")) ?? "").split { $0.isWhitespace }
        guard fields.count > 6, let written = UInt64(fields[6]) else { return nil }
        let discarded = fields.count > 13 ? UInt64(fields[13]) ?? 0 : 0
        return written &+ discarded
    }

    /// The number of reads, writes, discards and flushes of a disk since it appeared, as one number that grows with
    /// each completed request (Documentation/block/stat.rst: the fields 1, 5, 12 and 16).
    func activity(of name: String) -> UInt64? {
        let fields = (Files.text(sys.appending("class/block/\(name)/stat")) ?? "").split { $0.isWhitespace }
        guard fields.count > 4 else { return nil }
        return [0, 4, 11, 15].reduce(0) { sum, field in
            sum &+ (field < fields.count ? UInt64(fields[field]) ?? 0 : 0)
        }
    }

    /// The sequence number of a disk's attachment; `nil` for partitions and old kernels.
    func diskSequence(of name: String) -> String? { Files.text(sys.appending("class/block/\(name)/diskseq")) }

    /// The mounts that this process sees.
    var mounts: [MountEntry] { MountEntry.parse(Files.text(proc.appending("self/mountinfo")) ?? "") }

    /// The members of each Btrfs filesystem that is mounted anywhere (sysfs lists only mounted ones; Btrfs has device
    /// numbers of its own, so that mounts do not identify the members).
    var btrfsPools: [Set<String>] {
        let folder = sys.appending("fs/btrfs")
        return Files.names(in: folder).map { Set(Files.names(in: folder.appending("\($0)/devices"))) }
            .filter { !$0.isEmpty }
    }

    /// The kernel's name of a device as mounts name it: `/dev/sda2`, `/dev/mapper/NAME`, or a link below `/dev`.
    func node(_ source: String) -> String? {
        guard source.hasPrefix("/dev/") else { return nil }
        if let name = Files.realPath(FilePath(source))?.lastComponent?.string { return name }
        // Without udev the node may be missing, or it has been removed since.
        let name = String(source.dropFirst(source.hasPrefix("/dev/mapper/") ? 12 : 5))
        let block = sys.appending("class/block")
        return Files.names(in: block).first { Files.text(block.appending("\($0)/dm/name")) == name } ?? name
    }

    /// The loop devices over a file or disk, or a part of it, by the kernel's names.
    package func loopDevices(over file: BlockDevice) -> [String] {
        // A loop device does not claim its backing device: O_EXCL would not notice it.
        let name = file.isDevice ? kernelName(ofDevice: file.deviceNumber) : nil
        let numbers = ([name].compactMap { $0 } + (name.map(partitionNodes) ?? []).map(\.name))
            .compactMap { Files.text(sys.appending("class/block/\($0)/dev")) }
        return loops().filter { loop in
            guard let backing = backing(ofLoop: loop) else { return false }
            if file.isDevice {
                return numbers.contains("\(rf_major(backing.device)):\(rf_minor(backing.device))") && backing.isDevice
            }
            return !backing.isDevice && backing.device == file.deviceNumber && backing.inode == file.inodeNumber
        }
    }

    /// The loop devices that are attached, by the kernel's names.
    func loops() -> [String] {
        Files.names(in: sys.appending("block")).filter {
            $0.hasPrefix("loop") && Files.exists(sys.appending("block/\($0)/loop/backing_file"))
        }
    }

    /// The file or device behind a loop device.
    struct Backing: Equatable {
        var isDevice: Bool
        var device: UInt64
        var inode: UInt64
    }

    /// The file or device behind a loop device. The path in sysfs is valid only in the mount namespace in which it was
    /// attached, and only until the file is renamed: the device itself is asked first.
    func backing(ofLoop name: String) -> Backing? {
        if let node = try? OwnedDescriptor.open(FilePath("/dev/\(name)"), .readOnly) {
            var (device, inode, special): (UInt64, UInt64, UInt64) = (0, 0, 0)
            if rf_loop_backing(node.raw.rawValue, &device, &inode, &special) == 0 {
                return special != 0
                    ? Backing(isDevice: true, device: special, inode: 0)
                    : Backing(isDevice: false, device: device, inode: inode)
            }
        }
        guard let path = Files.text(sys.appending("block/\(name)/loop/backing_file")),
            let status = try? Stat(FilePath(path))
        else { return nil }
        return status.type == .blockSpecial
            ? Backing(isDevice: true, device: UInt64(status.specialDeviceID.rawValue), inode: 0)
            : Backing(
                isDevice: false, device: UInt64(status.deviceID.rawValue), inode: UInt64(status.inode.rawValue))
    }
}

/// One search for the uses of disks: the mount tables are read once for it.
private final class UseSearch {
    private let directory: DiskDirectory
    private let stopped: Set<String>
    private let pools: [Set<String>]
    private let swaps: [String]
    private let own: [MountEntry]
    /// Mounts in other namespaces: there may be hundreds of processes to read.
    private lazy var foreign: [MountEntry] = MountEntry.inOtherNamespaces(proc: directory.proc)

    init(_ directory: DiskDirectory, _ stopped: Set<String>) {
        self.directory = directory
        self.stopped = stopped
        pools = directory.btrfsPools
        own = directory.mounts
        swaps = (Files.text(directory.proc.appending("swaps")) ?? "").split(separator: "\n").dropFirst()
            .compactMap { $0.split(separator: " ").first.map(String.init) }
    }

    /// - Parameter range: limits the search to the partitions in this range of the disk; `nil` for all.
    func uses(of disk: String, within range: ByteRange? = nil) -> [DiskUse] {
        var uses: [DiskUse] = []
        let partitions = directory.partitionNodes(of: disk).filter { range?.overlaps($0.range) ?? true }
        for node in [disk] + partitions.map(\.name) {
            let folder = directory.sys.appending("class/block/\(node)")
            let pool = pools.first { $0.contains(node) } ?? [node]
            let number = Files.text(folder.appending("dev")) ?? ""
            func isNamed(_ mount: MountEntry) -> Bool { directory.node(mount.source).map(pool.contains) ?? false }
            var found = own.filter { $0.device == number || isNamed($0) }
            // The mounts of the same filesystem in other namespaces need not be named if this process sees one. Device
            // names from other namespaces count only where there is no other evidence (Btrfs).
            if found.isEmpty {
                found = foreign.filter { $0.device == number || $0.device.hasPrefix("0:") && isNamed($0) }
                found = Array(found.prefix(1))
            }
            uses += found.map { .mounted(node: node, at: $0.mountPoint, readOnly: $0.isReadOnly) }
            // Mounted in a namespace that no process shows.
            if found.isEmpty, pools.contains(pool) {
                uses.append(.mounted(node: node, at: "an unknown place", readOnly: false))
            }
            if swaps.contains("/dev/\(node)") { uses.append(.swap(node: node)) }
            for holder in Files.names(in: folder.appending("holders")) where !stopped.contains(holder) {
                let name = Files.text(directory.sys.appending("class/block/\(holder)/dm/name")) ?? holder
                uses.append(.held(node: node, by: name, kernelName: holder))
                // Uses of a holder count too, such as a mounted logical volume.
                uses += self.uses(of: holder)
            }
        }
        var unique: [DiskUse] = []
        for use in uses where !unique.contains(use) { unique.append(use) }
        return unique
    }
}

extension MountEntry {
    /// Mounts in mount namespaces other than this process's, as far as their processes can be read; each
    /// mount point names its process.
    static func inOtherNamespaces(proc: FilePath) -> [MountEntry] {
        var seen: Set<String> = []
        if let own = Files.linkTarget(proc.appending("self/ns/mnt")) { seen.insert(own) }
        var entries: [MountEntry] = []
        for name in Files.names(in: proc) where Int32(name) != nil {
            let folder = proc.appending(name)
            guard let namespace = Files.linkTarget(folder.appending("ns/mnt")), seen.insert(namespace).inserted else {
                continue
            }
            let program = Files.text(folder.appending("comm")).map { ", \($0)" } ?? ""
            entries += parse(Files.text(folder.appending("mountinfo")) ?? "").map { entry in
                var entry = entry
                entry.mountPoint += " (in the mount namespace of process \(name)\(program))"
                return entry
            }
        }
        return entries
    }
}
