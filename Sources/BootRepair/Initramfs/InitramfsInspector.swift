// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// Reads the initramfs of the kernels of a mounted system, and compares them with what a start needs. Runs nothing of
/// the system.
struct InitramfsInspector {
    let volumes: [BootVolume]
    /// The devices between the disk and the processor; several where it is not known on which of them the disk will be.
    /// Empty: the machine is unknown.
    let devices: [[DeviceDriver]]

    /// Adds to a kernel its version, its needs and the contents of its initramfs.
    func inspect(
        _ kernel: inout InstalledSystem.Kernel, of system: InstalledSystem, in anchor: borrowing AnchoredFolder
    ) {
        kernel.version = Self.version(of: kernel.name, in: anchor)
        let modules = kernel.version.flatMap { Self.modules(of: $0, in: anchor) }
        if let modules, !devices.isEmpty { kernel.needs = needs(of: system, modules) }
        guard let name = kernel.initramfs else { return }
        do throws(BootFileError) {
            kernel.contents = survey(try Self.read("/boot/\(name)", in: anchor), kernel, modules)
        } catch {
            if case .damaged = error {
                kernel.contents = InitramfsSurvey(problem: .damaged("\(error)"))
            } else {
                kernel.contents = InitramfsSurvey(problem: .unread("\(error)"))
            }
        }
    }

    private func survey(
        _ initramfs: Initramfs, _ kernel: InstalledSystem.Kernel, _ modules: KernelModules?
    ) -> InitramfsSurvey {
        var survey = InitramfsSurvey(
            generator: initramfs.generator, isHostOnly: initramfs.isHostOnly,
            versions: initramfs.modules.keys.sorted(),
            lostReferences: initramfs.references.filter { !isFound($0.target) },
            commandLine: initramfs.commandLine.filter { word in
                Initramfs.target(ofArgument: word).map(isFound) ?? true
            })
        if let modules, let version = kernel.version {
            let present = initramfs.modules(for: version)
            survey.unmet = modules.unmet(kernel.needs, by: present).filter { !$0.modules.isEmpty }
            survey.missing = modules.missing(kernel.needs, from: present)
        }
        return survey
    }

    /// What a start from this disk needs.
    private func needs(of system: InstalledSystem, _ modules: KernelModules) -> [ModuleNeed] {
        var needs: [ModuleNeed] = []
        func add(_ need: ModuleNeed?) {
            if let need, !needs.contains(need) { needs.append(need) }
        }
        for device in devices.joined() { add(modules.need(of: device)) }
        let usr = system.fstab.first { $0.mountPoint == "/usr" }?.partition
        for number in [system.rootPartition, usr].compactMap({ $0 }) {
            guard let volume = volumes.first(where: { $0.number == number }) else { continue }
            add(modules.need(ofFilesystem: volume.traits.mount?.type ?? volume.kindName))
            if volume.logicalVolume != nil { add(ModuleNeed(["dm_mod"], for: "logical volumes")) }
        }
        return needs
    }

    private func isFound(_ target: InitramfsReference.Target) -> Bool {
        switch target {
        case .device(let text):
            let prefixes = [("/dev/disk/by-uuid/", "UUID="), ("/dev/disk/by-partuuid/", "PARTUUID=")]
            let plain = prefixes.first { text.hasPrefix($0.0) }.map { $0.1 + text.dropFirst($0.0.count) } ?? text
            let reference = BootReference(plain[...])
            return volumes.contains { reference.names($0) }
        case .luks(let uuid):
            // dracut takes the start of a UUID, too.
            return volumes.contains { $0.kind == .luks && $0.uuid?.lowercased().hasPrefix(uuid) == true }
        case .logicalVolume(let name): return volumes.contains { $0.logicalVolume?.name == name }
        case .array(let digits):
            return volumes.contains { $0.kind == .raid && $0.uuid?.lowercased().filter(\.isHexDigit) == digits }
        }
    }

    /// Reads an initramfs of the system.
    static func read(_ path: String, in anchor: borrowing AnchoredFolder) throws(BootFileError) -> Initramfs {
        let stream: FileStream
        do throws(SystemCallError) { stream = FileStream(try anchor.openFile(path), path) } catch {
            throw .unreadable(why: "\(error)")
        }
        return try InitramfsReader.read(stream, unpack: ProgramStream.unpack)
    }

    /// The modules of a kernel of the system; `nil` if they cannot be read.
    static func modules(of version: String, in anchor: borrowing AnchoredFolder) -> KernelModules? {
        var files: [String: [UInt8]] = [:]
        for name in KernelModules.fileNames {
            files[name] = try? anchor.read("/lib/modules/\(version)/\(name)", limit: KernelModules.fileByteCount)
        }
        guard let modules = try? KernelModules(version: version, files: files), !modules.isEmpty else { return nil }
        return modules
    }

    /// The version of a kernel in /boot, which is the name of a folder of modules; `nil` if there is none.
    private static func version(of kernel: String, in anchor: borrowing AnchoredFolder) -> String? {
        let suffix = String(kernel.dropFirst("vmlinuz-".count))
        if anchor.exists("/lib/modules/\(suffix)/modules.dep") { return suffix }
        // Arch names the kernel after its package, which is in the folder of its modules.
        return anchor.names(in: "/lib/modules").prefix(64).first { version in
            anchor.text("/lib/modules/\(version)/pkgbase")?.trimmed == suffix
        }
    }

    /// The generators whose programs the system has.
    static func generators(in anchor: borrowing AnchoredFolder) -> [InitramfsGenerator] {
        var found: [InitramfsGenerator] = []
        let programs: [(InitramfsGenerator, [String])] = [
            // dracut has an update-initramfs too.
            (.initramfsTools, ["update-initramfs", "mkinitramfs"]), (.dracut, ["dracut"]),
            (.mkinitcpio, ["mkinitcpio"]),
        ]
        for (generator, names) in programs {
            var isThere = true
            for name in names where InstalledSystemReader.program(name, in: anchor) == nil { isThere = false }
            if isThere { found.append(generator) }
        }
        return found
    }
}
