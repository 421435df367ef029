// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// Reads a mounted system: the installation, and the references to its disk.
struct InstalledSystemReader {
    private let tree: SystemTree
    private let volumes: [BootVolume]
    private let options: BootRepairOptions
    private let devices: [[DeviceDriver]]
    /// Kernels whose initramfs is read: each takes a second or more.
    static let mostInspected = 16

    /// - Parameter devices: what the disk hangs on in the machine that it is judged for; empty if that is unknown.
    init(
        _ tree: SystemTree, _ volumes: [BootVolume], _ options: BootRepairOptions, devices: [[DeviceDriver]] = []
    ) {
        self.devices = devices
        self.tree = tree
        self.volumes = volumes
        self.options = options
    }

    /// The system on `volume`, or on a subvolume of it, at the root of the tree; `nil` if there is none. Also mounts a
    /// separate /boot.
    func read(_ volume: BootVolume, subvolume: String?) throws(SystemCallError) -> InstalledSystem? {
        let anchor = try tree.anchored()
        let fstab = anchor.text("/etc/fstab")
        let release = Self.releaseText(anchor, below: "")
        guard fstab != nil || release != nil else { return nil }
        let facts = Self.variables(release ?? "")
        let resolver = FstabResolver(
            volumes: volumes, rootPartition: volume.number, capturedDiskName: options.capturedDiskName,
            capturedPartUUIDs: options.capturedPartUUIDs)
        var system = InstalledSystem(
            rootPartition: volume.number, rootSubvolume: subvolume,
            name: facts["PRETTY_NAME"] ?? facts["NAME"] ?? "a Linux system",
            identifier: facts["ID"] ?? "linux", fstab: resolver.resolve(Fstab(fstab ?? "").entries))
        for mount in system.bootMounts {
            guard let boot = volumes.first(where: { $0.number == mount.partition }) else { continue }
            try tree.mount(boot, subvolume: mount.subvolume, at: mount.path)
        }
        // A descriptor opened before the mount still refers to the underlying folder.
        readProcessor(try tree.anchored(), &system)
        readKernels(try tree.anchored(), &system)
        return system
    }

    /// os-release(5) of the system in a folder.
    static func releaseText(_ anchor: borrowing AnchoredFolder, below folder: String) -> String? {
        anchor.text("\(folder)/etc/os-release") ?? anchor.text("\(folder)/usr/lib/os-release")
    }

    /// The path of a program.
    static func program(_ name: String, in anchor: borrowing AnchoredFolder) -> String? {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map { "\($0)/\(name)" }.first { anchor.exists($0) }
    }

    /// Whether the programs are for this processor, determined from a program that a loader would run.
    private func readProcessor(_ anchor: borrowing AnchoredFolder, _ system: inout InstalledSystem) {
        for name in BootLoaders.table.rows.flatMap({ $0.programs }) + ["sh"] {
            guard let path = Self.program(name, in: anchor) else { continue }
            system.programsRunHere = Self.machine(try? anchor.read(path, limit: 64)) == Self.ownMachine
            return
        }
    }

    private func readKernels(_ anchor: borrowing AnchoredFolder, _ system: inout InstalledSystem) {
        let names = anchor.names(in: "/boot")
        let inspector = InitramfsInspector(volumes: volumes, devices: devices)
        system.initramfsGenerators = InitramfsInspector.generators(in: anchor)
        for (index, kernel) in names.filter({ $0.hasPrefix("vmlinuz-") }).enumerated() {
            let version = kernel.dropFirst("vmlinuz-".count)
            let initramfs = [
                "initrd.img-\(version)", "initramfs-\(version).img", "initrd-\(version)", "initramfs-\(version)",
            ].first(where: names.contains)
            var found = InstalledSystem.Kernel(name: kernel, initramfs: initramfs)
            found.fallback = ["initramfs-\(version)-fallback.img"].first(where: names.contains)
            if index < Self.mostInspected { inspector.inspect(&found, of: system, in: anchor) }
            system.kernels.append(found)
        }
        for name in anchor.names(in: "/etc/initramfs-tools/conf.d") {
            let variables = Self.variables(anchor.text("/etc/initramfs-tools/conf.d/\(name)") ?? "")
            // initramfs-tools(7): the device to resume from.
            if let resume = variables["RESUME"] {
                let lost = BootReference.lost(
                    [BootReference(resume.prefix { $0 != " " && $0 != "\t" })], volumes: volumes)
                system.lostResume += lost.filter { !["none", "auto"].contains($0) && !system.lostResume.contains($0) }
            }
        }
    }

    /// `NAME=value` lines in shell syntax, without quotes.
    static func variables(_ text: String) -> [String: String] {
        var variables: [String: String] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            variables[String(parts[0])] = parts[1].filter { $0 != "\"" && $0 != "'" }
        }
        return variables
    }

    /// e_machine of an ELF header (ELF-64 object file format, figure 2); `nil` if it is none.
    private static func machine(_ header: [UInt8]?) -> UInt16? {
        guard let header, header.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return nil }
        return try? header.littleEndian(at: 18)
    }

    private static let ownMachine = machine(try? Files.read("/proc/self/exe", limit: 64))
}
