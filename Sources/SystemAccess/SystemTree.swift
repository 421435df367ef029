// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage

/// An installed system, mounted at a private path. Closing or deinitializing it unmounts everything in reverse order.
///
/// Every path below is resolved inside the tree, because its links are foreign. It is mounted without devices, and its
/// programs run confined.
package final class SystemTree {
    /// Where its root is mounted.
    package let root: FilePath
    /// Whether all of its partitions have nodes that the kernel knows as parts of the disk.
    package private(set) var hasPartitionNodes = true
    private let disk: BlockDevice
    private let readOnly: Bool
    /// The files with the keys of LUKS volumes.
    private let keys: [FilePath]
    private let folder: FilePath
    /// Mount points, in mount order.
    private var mounts: [FilePath] = []
    /// One node per volume, shared by all of its mounted subvolumes: Btrfs rejects a second node for the same
    /// filesystem.
    private var nodes: [(volume: BootVolume, node: VolumeNode)] = []
    /// The confinement of its programs; `nil` until `prepareForPrograms`.
    package private(set) var confinement: Confinement?

    /// Mounts a system's root.
    /// - Parameter keys: the files with the keys of the LUKS volumes that it is in.
    package init(
        _ volume: BootVolume, subvolume: String? = nil, of disk: BlockDevice, readOnly: Bool, keys: [FilePath] = []
    ) throws(SystemCallError) {
        self.disk = disk
        self.keys = keys
        self.readOnly = readOnly
        folder = try Files.makeTemporaryFolder("reforge-boot", in: Files.exists("/run") ? "/run" : "/tmp")
        root = folder.appending("root")
        do {
            try Files.makeFolders(root)
            try mount(volume, subvolume, onto: root)
        } catch {
            try? Files.removeFolder(root)
            try? Files.removeFolder(folder)
            throw error
        }
    }

    deinit { try? close() }

    /// The root as an anchored folder: no link leads out of it.
    package func anchored() throws(SystemCallError) -> AnchoredFolder { try AnchoredFolder(root) }

    /// Mounts a partition or volume on a folder inside, which is created if missing.
    package func mount(_ volume: BootVolume, subvolume: String? = nil, at inner: String) throws(SystemCallError) {
        let anchor = try anchored()
        if !readOnly, !anchor.exists(inner) { try anchor.makeFolders(inner) }
        try mount(volume, subvolume, onto: try place(inner))
    }

    private func mount(
        _ volume: BootVolume, _ subvolume: String?, onto place: FilePath
    ) throws(SystemCallError) {
        let node: VolumeNode
        if let known = nodes.first(where: { $0.volume == volume }) {
            node = known.node
        } else {
            node = try VolumeNode.make(volume, of: disk, readOnly: readOnly, keys: keys)
        }
        // The kernel may support a type that Reforge's table lacks; if not, its error says so.
        let manner = volume.traits.mount ?? FilesystemTraits.MountManner(volume.kindName)
        // A device node on the volume would give access to any disk of this machine.
        var arguments = MountArguments(manner, .noDevices, readOnly: readOnly)
        if let subvolume {
            // A comma would start another option.
            guard volume.kindName == "btrfs", !subvolume.contains(",") else {
                throw SystemCallError("mount", "the subvolume \(subvolume) of \(volume.place)", .invalidArgument)
            }
            arguments.add("subvol=/\(subvolume)")
        }
        try Mount.permanent(
            node.path.string, on: place, type: arguments.type, options: arguments.options, data: arguments.data)
        mounts.append(place)
        // Several subvolumes of one filesystem may be mounted.
        if !nodes.contains(where: { $0.volume == volume }) { nodes.append((volume, node)) }
        if !node.isPartition { hasPartitionNodes = false }
    }

    /// Prepares the environment for programs of the tree: folders for /proc, /sys and /run, and a private /dev with the
    /// disk, its partitions and the links of /dev/disk that udev would make.
    ///
    /// The private /dev replaces udev, which the recovery environment lacks: GRUB's 10_linux writes `root=UUID=…` only
    /// if /dev/disk/by-uuid has that name. It is beside the tree until a program runs: no link of the tree leads into
    /// it.
    ///
    /// - Parameter kernelName: the kernel's name of the disk; `nil` for a file, which programs cannot see.
    package func prepareForPrograms(_ volumes: [BootVolume], kernelName: String?) throws(SystemCallError) {
        let anchor = try anchored()
        for folder in ["proc", "sys", "run", "dev"] where !anchor.exists(folder) { try anchor.makeFolders(folder) }
        let dev = folder.appending("dev")
        try Files.makeFolders(dev)
        try Mount.permanent("tmpfs", on: dev, type: "tmpfs", data: "mode=755,size=4m")
        mounts.append(dev)
        let everybody = FilePermissions(rawValue: 0o666)
        for name in ["null", "zero", "full", "random", "urandom", "tty"] where Files.exists(FilePath("/dev/\(name)")) {
            try Files.makeDeviceNode(dev.appending(name), like: FilePath("/dev/\(name)"), permissions: everybody)
        }
        for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
            try Files.makeLink(dev.appending(name), to: target)
        }
        for folder in ["pts", "shm", "disk/by-uuid", "disk/by-partuuid", "disk/by-label", "disk/by-partlabel"] {
            try Files.makeFolders(dev.appending(folder))
        }
        let asksDeviceMapper = try showLogicalVolumes(in: dev)
        if let kernelName { try showDisk(kernelName, volumes, in: dev) }
        confinement = Confinement(
            root: root, devices: dev, capabilities: asksDeviceMapper ? [.files, .queryDeviceMapper] : .files)
    }

    private func showDisk(_ name: String, _ volumes: [BootVolume], in dev: FilePath) throws(SystemCallError) {
        try Files.makeDeviceNode(dev.appending(name), like: FilePath("/dev/\(name)"))
        for node in DiskDirectory().partitionNodes(of: name) {
            try Files.makeDeviceNode(dev.appending(node.name), like: FilePath("/dev/\(node.name)"))
            guard let volume = volumes.first(where: { $0.number == node.number && $0.isPartition })
            else { continue }
            try makeLinks(to: node.name, for: volume, in: dev)
        }
    }

    private func makeLinks(to node: String, for volume: BootVolume, in dev: FilePath) throws(SystemCallError) {
        let links = [
            ("by-uuid", volume.uuid), ("by-partuuid", volume.partUUID), ("by-label", volume.label),
            ("by-partlabel", volume.name),
        ]
        for case (let folder, let name?) in links where !name.isEmpty && !name.contains("/") {
            try Files.makeLink(dev.appending("disk/\(folder)/\(Self.linkName(name))"), to: "../../\(node)")
        }
    }

    /// Adds the mounted logical volumes under their LVM names, opened containers, and the control node for
    /// libdevmapper.
    /// - Returns: whether there are any.
    private func showLogicalVolumes(in dev: FilePath) throws(SystemCallError) -> Bool {
        let shown = nodes.filter { !$0.volume.isPartition }
        guard !shown.isEmpty else { return false }
        try Files.makeFolders(dev.appending("mapper"))
        if Files.exists("/dev/mapper/control") {
            try Files.makeDeviceNode(dev.appending("mapper/control"), like: "/dev/mapper/control")
        }
        for (volume, node) in shown {
            try showLayers(of: node, in: dev)
            guard volume.logicalVolume != nil else {
                try makeLinks(to: node.path.lastComponent?.string ?? "", for: volume, in: dev)
                continue
            }
            let name = "mapper/\(node.path.lastComponent?.string ?? "")"
            try Files.makeDeviceNode(dev.appending(name), like: node.path)
            if let group = volume.logicalVolume?.name.split(separator: "/") {
                try Files.makeFolders(dev.appending(String(group[0])))
                try Files.makeLink(dev.appending(group.joined(separator: "/")), to: "../\(name)")
            }
            try makeLinks(to: name, for: volume, in: dev)
        }
        return true
    }

    /// Adds the opened containers below a mounted volume: by their kernel's names, and mappings by theirs, too.
    private func showLayers(of node: VolumeNode, in dev: FilePath) throws(SystemCallError) {
        for (path, mapping) in node.layers {
            let name = path.lastComponent?.string ?? ""
            if !Files.exists(dev.appending(name)) { try Files.makeDeviceNode(dev.appending(name), like: path) }
            if let mapping, !Files.exists(dev.appending("mapper/\(mapping)")) {
                try Files.makeDeviceNode(dev.appending("mapper/\(mapping)"), like: path)
            }
        }
    }

    /// A label as udev writes it in the name of a link: special characters become `\x20` etc.
    private static func linkName(_ label: String) -> String {
        label.utf8.map { byte in
            let character = Character(UnicodeScalar(byte))
            let isPlain = byte >= 0x80 || character.isLetter || character.isNumber || "#+-.:=@_".contains(character)
            return isPlain ? String(character) : "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }

    /// The real path of a folder or file inside, resolved in the tree.
    package func place(_ inner: String) throws(SystemCallError) -> FilePath {
        let anchor = try anchored()
        return try anchor.realPath(of: inner)
    }

    /// The path of a folder in its filesystem, including the path of the mounted subvolume.
    package func pathInFilesystem(_ inner: String) -> String? {
        guard let real = try? place(inner).string else { return nil }
        let mount = MountEntry.current().filter { real == $0.mountPoint || real.hasPrefix($0.mountPoint + "/") }
            .max { $0.mountPoint.count < $1.mountPoint.count }
        guard let mount else { return nil }
        return (mount.root == "/" ? "" : mount.root) + real.dropFirst(mount.mountPoint.count)
    }

    /// Runs a program of the tree, confined. Its output is made printable.
    /// - Parameters:
    ///   - input: its standard input.
    ///   - timeoutSeconds: the time limit, after which it is killed.
    package func run(
        _ command: [String], input: [UInt8] = [], timeoutSeconds: Double = 1800
    ) throws(SystemCallError) -> ChildProcess.Output {
        guard let confinement else { throw SystemCallError("run", command.first ?? "nothing", .invalidArgument) }
        var output = try ChildProcess.run(
            // Otherwise dracut creates device nodes, which the confinement refuses.
            command, input: input, environment: ChildProcess.plainEnvironment + ["DRACUT_NO_MKNOD=1"],
            confinement: confinement, timeoutSeconds: timeoutSeconds)
        output.standardOutput = Self.printable(output.standardOutput)
        output.standardError = Self.printable(output.standardError)
        return output
    }

    /// Text without control characters for terminals.
    private static func printable(_ bytes: [UInt8]) -> [UInt8] {
        let scalars = String(decoding: bytes, as: UTF8.self).unicodeScalars.map { scalar in
            let isPlain = scalar == "\n" || scalar == "\t" || scalar.properties.generalCategory != .control
            return isPlain ? scalar : "?"
        }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: scalars)
        return Array(String(text).utf8)
    }

    /// Unmounts everything, in reverse, and removes the folder.
    package func close() throws(SystemCallError) {
        var failure: SystemCallError?
        while let place = mounts.popLast() {
            do { try Self.unmount(place) } catch { failure = failure ?? error }
        }
        if confinement != nil, failure == nil {
            for (_, node) in nodes {
                do { try Self.awaitRelease(of: node.path) } catch { failure = failure ?? error }
            }
        }
        confinement = nil
        while nodes.popLast() != nil {}
        for place in [folder.appending("dev"), root, folder] { try? Files.removeFolder(place) }
        if let failure { throw failure }
    }

    /// Waits until the kernel has released a volume and written all of it to the disk: the mounts of a program's
    /// namespace end a moment after the program.
    private static func awaitRelease(of node: FilePath) throws(SystemCallError) {
        let deadline = SystemFacts.monotonicSeconds() + 30
        while true {
            do {
                _ = try OwnedDescriptor.open(node, .readOnly, options: [.exclusiveCreate, .nonBlocking])
                return
            } catch  where error.errno == .resourceBusy && SystemFacts.monotonicSeconds() < deadline {
                SystemFacts.sleep(seconds: 0.02)
            }
        }
    }

    /// Unmounts, retrying while busy: a child just forked by another thread holds this process's descriptors until exec
    /// (close-on-exec), and a process of the installed system may take a moment to end. After a timeout, the mount is
    /// detached, and the error says that its data may not be on the disk yet.
    private static func unmount(_ place: FilePath) throws(SystemCallError) {
        let deadline = SystemFacts.monotonicSeconds() + 10
        while true {
            do {
                return try Mount.unmount(place)
            } catch  where error.errno == .resourceBusy && SystemFacts.monotonicSeconds() < deadline {
                SystemFacts.sleep(seconds: 0.02)
            } catch {
                try? Mount.unmount(place, lazily: true)
                throw error
            }
        }
    }
}
