// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// The volumes of the machine's disks, opened and mounted so that nothing is written: no journal is replayed, groups
/// are activated read-only, LUKS is opened read-only, and a mirror's member is read by itself. Only `repair` writes.
package final class DiskVolumes: AgentVolumes {
    package var keys: [[UInt8]] = [] { didSet { found = nil } }
    let disks: [FilePath]
    /// Where volumes are mounted, and keys are kept for as long as it takes to try them.
    let folder: FilePath
    /// Whether `repair` writes: never outside the appliance.
    let mayRepair: Bool
    private var found: [Found]?
    /// What must stay open, in the order of opening.
    private var held: [AnyObject] = []
    private var mounts: [HeldMount] = []
    private var physicalVolumes: [Place] = []
    private let log = KernelLog()

    private struct Found {
        var volume: AgentVolume
        var node: FilePath
    }

    /// Where a volume is on the disks.
    private struct Place {
        var node: FilePath
        var disk: Int
        var partition: Int
        var logicalVolume = ""
        var layers: [String] = []
    }

    /// Whether volumes were activated, opened or mounted.
    var hasOpenVolumes: Bool { !held.isEmpty || !mounts.isEmpty }

    private final class HeldMount {
        let mount: MountedVolume
        init(_ mount: consuming MountedVolume) { self.mount = mount }
    }

    private final class HeldFolderMount {
        let place: FilePath
        init(_ place: FilePath) { self.place = place }
        deinit { if (try? Mount.unmount(place)) == nil { try? Mount.unmount(place, lazily: true) } }
    }

    private final class HeldLoop {
        let loop: LoopDevice
        init(_ loop: consuming LoopDevice) { self.loop = loop }
    }

    /// - Parameters:
    ///   - disks: nodes of whole disks.
    ///   - mayRepair: whether the host's requests may change them.
    package init(_ disks: [FilePath], folder: FilePath, mayRepair: Bool = false) {
        self.mayRepair = mayRepair
        self.disks = disks
        self.folder = folder
    }

    deinit {
        // From the top down: a volume in use stays.
        while !mounts.isEmpty { mounts.removeLast() }
        while !held.isEmpty { held.removeLast() }
        // Mount points, which are empty now; a folder that is still in use stays.
        for name in Files.names(in: folder) { try? Files.removeFolder(folder.appending(name)) }
        try? Files.removeFolder(folder)
    }

    package func all() -> [AgentVolume] {
        if let found { return found.map(\.volume) }
        found = []
        physicalVolumes = []
        for (index, disk) in disks.enumerated() {
            for place in places(of: disk, index) { examine(place) }
        }
        activateGroups()
        return (found ?? []).map(\.volume)
    }

    package func kernelErrors() -> [String] { log.errors() }

    private func places(of disk: FilePath, _ index: Int) -> [Place] {
        let bare = Place(node: disk, disk: index, partition: 0)
        guard let name = disk.lastComponent?.string else { return [bare] }
        let nodes = DiskDirectory().partitionNodes(of: name).sorted { $0.number < $1.number }
        guard !nodes.isEmpty else { return [bare] }
        return nodes.map { Place(node: FilePath("/dev/\($0.name)"), disk: index, partition: $0.number) }
    }

    private func add(
        _ place: Place, kindName: String = "", uuid: String = "", label: String = "", size: UInt64 = 0,
        obstacle: String = ""
    ) {
        var volume = AgentVolume(
            id: UInt32(clamping: found?.count ?? 0), disk: UInt32(clamping: place.disk),
            partition: UInt32(clamping: place.partition), byteCount: size)
        (volume.logicalVolume, volume.layers, volume.kindName) = (place.logicalVolume, place.layers, kindName)
        (volume.uuid, volume.label) = (uuid, label)
        volume.obstacle = obstacle
        found?.append(Found(volume: volume, node: place.node))
    }

    /// Finds out what a node holds, and opens what can be opened.
    private func examine(_ place: Place) {
        let device: BlockDevice
        do { device = try BlockDevice(opening: place.node) } catch {
            add(place, obstacle: "\(error)")
            return
        }
        let size = device.byteCount
        let opinion = SecondOpinion(descriptor: device.fileDescriptor.rawValue)
        switch opinion.finding(byteCount: size) {
        case .found("crypto_LUKS", let uuid, _): openLUKS(place, device, uuid: uuid ?? "")
        case .found("linux_raid_member", let uuid, _): openMirror(place, device, uuid: uuid ?? "")
        case .found(let kindName, let uuid, let label):
            if kindName == "LVM2_member" { physicalVolumes.append(place) }
            let obstacle =
                kindName == "BitLocker" ? "it is encrypted by BitLocker, which Reforge cannot open" : ""
            add(place, kindName: kindName, uuid: uuid ?? "", label: label ?? "", size: size, obstacle: obstacle)
        case .nothing: add(place, size: size)
        case .ambivalent: add(place, size: size, obstacle: "it has the signatures of several filesystems")
        case .failed: add(place, size: size, obstacle: "its start cannot be read")
        }
        withExtendedLifetime(device) {}
    }

    private func openMirror(_ place: Place, _ device: BlockDevice, uuid: String) {
        func refuse(_ why: String) {
            add(place, kindName: "linux_raid_member", uuid: uuid, size: device.byteCount, obstacle: why)
        }
        guard place.layers.count < 4 else { return refuse("it is nested too deep") }
        do {
            guard let range = try RAIDMirror.contents(of: device) else {
                return refuse("it is a part of an array (md) that cannot be read without its other disks")
            }
            Self.loadModules(["loop"])
            let loop = try LoopDevice(
                over: place.node, range: range, readOnly: true, sectorSize: device.logicalSectorSize)
            var inner = place
            inner.node = loop.path
            inner.layers.append("md")
            held.append(HeldLoop(loop))
            examine(inner)
        } catch { refuse("\(error)") }
    }

    private func openLUKS(_ place: Place, _ device: BlockDevice, uuid: String) {
        func refuse(_ why: String) {
            add(place, kindName: "crypto_LUKS", uuid: uuid, size: device.byteCount, obstacle: why)
        }
        guard place.layers.count < 4 else { return refuse("it is nested too deep") }
        guard !keys.isEmpty else { return refuse("it is encrypted (LUKS): give its key with --luks-key-file FILE") }
        Self.loadModules(["loop", "dm_mod", "dm_crypt"])
        for key in keys {
            do {
                let opened = try open(place, device, key)
                held.append(opened)
                var inner = place
                inner.node = opened.path
                inner.layers.append("LUKS")
                return examine(inner)
            } catch let error as LUKSOpenError where error == .wrongKey {
                continue
            } catch { return refuse("it could not be opened: \(error)") }
        }
        refuse("none of the keys opens it (--luks-key-file: all bytes of the file are the key, a newline too)")
    }

    /// Writes a key that only this user can read.
    func write(_ key: [UInt8], to file: FilePath) throws {
        try Files.makeFolders(folder)
        try? Files.remove(file)
        let written = try OwnedDescriptor.open(
            file, .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerReadWrite])
        _ = try written.raw.writeAll(key)
        try written.close()
    }

    private func open(_ place: Place, _ device: BlockDevice, _ key: [UInt8]) throws -> OpenedLUKS {
        let file = folder.appending("key")
        // /run is in memory.
        defer { try? Files.remove(file) }
        try write(key, to: file)
        return try OpenedLUKS(
            disk: place.node, range: 0..<device.byteCount, sectorSize: device.logicalSectorSize, keyFile: file,
            readOnly: true)
    }

    /// Activates every logical volume of the groups on the disks; LVM sees no other device.
    private func activateGroups() {
        guard !physicalVolumes.isEmpty else { return }
        Self.loadModules(["dm_mod"])
        let nodes = physicalVolumes.map(\.node.string).joined(separator: ",")
        let groups = Self.rows("pvs", on: nodes, "pv_name,vg_name")
        let volumes = Self.rows("lvs", on: nodes, "vg_name,lv_name,lv_attr")
        if let why = groups.failure ?? volumes.failure {
            // A volume that is not listed must not look like one that does not exist.
            for index in found?.indices ?? 0..<0 where found?[index].volume.kindName == "LVM2_member" {
                found?[index].volume.obstacle = "not all of its logical volumes can be listed: \(why)"
            }
        }
        for row in volumes.found where row.count == 3 {
            let (group, name) = (row[0], row[1])
            // lvs(8): a pool (t, C) has no contents of its own.
            guard ConfinedLVM.isName(group), ConfinedLVM.isName(name), !["t", "C"].contains(row[2].prefix(1)) else {
                continue
            }
            let holder = groups.found.first { $0.count == 2 && $0[1] == group }?[0]
            guard var place = physicalVolumes.first(where: { $0.node.string == holder }) ?? physicalVolumes.first else {
                continue
            }
            place.logicalVolume = "\(group)/\(name)"
            place.node = FilePath("/dev/mapper/\(MappedDevice.name(group: group, volume: name))")
            do {
                held.append(
                    try ActiveLogicalVolume(
                        place.logicalVolume, at: place.node, on: FilePath(nodes), readOnly: true))
                examine(place)
            } catch { add(place, obstacle: "it could not be activated: \(error)") }
        }
    }

    private static func rows(
        _ command: String, on nodes: String, _ fields: String
    ) -> (found: [[String]], failure: String?) {
        let arguments = ["--readonly", "--noheadings", "--separator", "|", "--options", fields]
        let output: ChildProcess.Output
        do {
            output = try ChildProcess.run(ConfinedLVM.command(command, on: nodes, arguments), timeoutSeconds: 120)
        } catch { return ([], "\(error)") }
        let rows = output.text.split(separator: "\n").map { line in
            line.split(separator: "|", omittingEmptySubsequences: false).map { String($0).trimmed }
        }
        return (rows, output.succeeded ? nil : "\(command) ended with \(output.ending): \(output.lastWords)")
    }

    /// Modules that the kernel does not load by itself.
    static func loadModules(_ names: [String], timeoutSeconds: Double = 60) {
        _ = try? ChildProcess.run(["modprobe", "-a", "-q", "-b", "--"] + names, timeoutSeconds: timeoutSeconds)
    }
}

// MARK: Mounting

extension DiskVolumes {
    package func mount(_ id: UInt32, _ subvolume: AgentSubvolume) throws(ApplianceError) -> FilePath {
        _ = all()
        guard let found, found.indices.contains(Int(id)) else { throw .notFound("there is no such volume") }
        let (volume, node) = (found[Int(id)].volume, found[Int(id)].node)
        guard volume.obstacle.isEmpty else { throw .refused("\(volume.name): \(volume.obstacle)") }
        guard volume.isMountable else {
            throw .refused(
                "\(volume.name) holds no files (\(volume.kindName.isEmpty ? "unknown contents" : volume.kindName))")
        }
        let place = folder.appending("mount\(mounts.count + held.count)")
        _ = log.errors()
        do throws(SystemCallError) {
            try Files.makeFolders(place)
            if volume.kindName == "ntfs", ChildProcess.canFind("ntfs-3g") {
                try mountNTFS(node, on: place)
                return place
            }
            let manner = try Self.manner(volume.kindName, subvolume)
            do {
                mounts.append(HeldMount(try MountedVolume(node.string, manner, on: place, writable: false)))
            } catch  where volume.kindName == "btrfs" {
                // Of several devices: the kernel must know all of them, and one may be missing.
                _ = try? ChildProcess.run(["btrfs", "device", "scan"], timeoutSeconds: 60)
                var degraded = manner
                degraded.readOnlyOptions += ",degraded"
                mounts.append(HeldMount(try MountedVolume(node.string, degraded, on: place, writable: false)))
            }
        } catch {
            // mount(2) has one error for everything; the log says what is damaged.
            let reason = log.errors().last.map { " (\($0))" } ?? ""
            throw .failed("\(volume.name) (\(volume.kindName)) could not be mounted: \(error)\(reason)")
        }
        // ext4 logs only ten errors in five seconds, and each stands for missing files.
        if let name = Files.realPath(node)?.lastComponent?.string {
            try? Files.put("0", into: FilePath("/sys/fs/ext4/\(name)/err_ratelimit_interval_ms"))
        }
        return place
    }

    private static func manner(
        _ kindName: String, _ subvolume: AgentSubvolume
    ) throws(SystemCallError) -> FilesystemTraits.MountManner {
        let name = kindName == "ntfs" ? "ntfs3" : kindName
        var manner = FilesystemTraits.named(kindName)?.mount ?? FilesystemTraits.MountManner(name)
        // Names of FAT are UTF-16: in any other encoding of the kernel, some could not be shown.
        if manner.type == "vfat" { manner.readOnlyOptions = "utf8" }
        // The filesystem may ask for a panic at the first error, which would end everything.
        if manner.type == "ext4" {
            manner.readOnlyOptions += (manner.readOnlyOptions.isEmpty ? "" : ",") + "errors=continue"
        }
        guard kindName == "btrfs" else { return manner }
        switch subvolume {
        case .topLevel: manner.readOnlyOptions += ",subvolid=5"
        case .standard: break
        case .named(let path):
            guard let text = String(validating: path, as: UTF8.self), !text.contains(","), !text.contains("\0") else {
                throw SystemCallError("mount", "that subvolume", .invalidArgument)
            }
            manner.readOnlyOptions += ",subvol=/\(text)"
        }
        return manner
    }

    /// Debian's kernel has no NTFS driver. Alternate data streams are shown as attributes (`user.…`).
    private func mountNTFS(_ node: FilePath, on place: FilePath) throws(SystemCallError) {
        Self.loadModules(["fuse"])
        let output = try ChildProcess.run(
            ["ntfs-3g", "-o", "ro,norecover,nodev,nosuid,noexec,streams_interface=xattr", node.string, place.string],
            timeoutSeconds: 120)
        guard output.succeeded else {
            throw SystemCallError("mount", "\(node) by ntfs-3g (\(output.lastWords))", .invalidArgument)
        }
        held.append(HeldFolderMount(place))
    }
}
