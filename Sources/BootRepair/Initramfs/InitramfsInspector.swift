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

    /// Adds to a kernel of /boot its version, its needs and the contents of its initramfs.
    func inspect(
        _ kernel: inout InstalledSystem.Kernel, of system: InstalledSystem, in anchor: borrowing AnchoredFolder
    ) {
        kernel.version = Self.version(of: kernel.name, in: anchor)
        let modules = kernel.version.flatMap { Self.modules(of: $0, in: anchor) }
        if let modules, !devices.isEmpty { kernel.needs = needs(of: system, modules) }
        guard let name = kernel.initramfs else { return }
        let result = Result { () throws(BootFileError) in try Self.read("/boot/\(name)", in: anchor) }
        kernel.contents = contents(result, kernel, modules)
        // mkinitcpio's preset without `autodetect`, whose entry is in the loader's menu, too.
        guard kernel.contents?.unmet.isEmpty == false, let fallback = kernel.fallback, let modules,
            let version = kernel.version, let image = try? Self.read("/boot/\(fallback)", in: anchor)
        else { return }
        kernel.fallbackIsWhole = modules.unmet(kernel.needs, by: image.modules(for: version))
            .allSatisfy(\.modules.isEmpty)
    }

    /// A kernel that a loader starts from a partition of its own.
    /// - Parameters:
    ///   - version: the name of the folder of its modules, if it is known.
    ///   - read: reads its initramfs.
    func kernel(
        _ name: String, initramfs: String, version: String?, of system: InstalledSystem,
        in anchor: borrowing AnchoredFolder, _ read: () throws(BootFileError) -> Initramfs
    ) -> InstalledSystem.Kernel {
        var kernel = InstalledSystem.Kernel(name: name, initramfs: initramfs, version: version)
        let modules = version.flatMap { Self.modules(of: $0, in: anchor) }
        if let modules, !devices.isEmpty { kernel.needs = needs(of: system, modules) }
        kernel.contents = contents(Result(catching: read), kernel, modules)
        return kernel
    }

    private func contents(
        _ result: Result<Initramfs, BootFileError>, _ kernel: InstalledSystem.Kernel, _ modules: KernelModules?
    ) -> InitramfsSurvey {
        switch result {
        case .success(let initramfs): survey(initramfs, kernel, modules)
        case .failure(.damaged(let what)): InitramfsSurvey(problem: .damaged("\(BootFileError.damaged(what: what))"))
        case .failure(let error): InitramfsSurvey(problem: .unread("\(error)"))
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
        survey.references = initramfs.references.filter { $0.isForTheStart && isFound($0.target) }
        if let modules, let version = kernel.version {
            let present = initramfs.modules(for: version)
            survey.unmet = modules.unmet(kernel.needs, by: present).filter { !$0.modules.isEmpty }
            survey.missing = modules.missing(kernel.needs, from: present)
        }
        return survey
    }

    /// What a start from this disk needs.
    func needs(of system: InstalledSystem, _ modules: KernelModules) -> [ModuleNeed] {
        var needs: [ModuleNeed] = []
        func add(_ need: ModuleNeed?) {
            if let need, !needs.contains(need) { needs.append(need) }
        }
        for device in devices.joined() { add(modules.need(of: device)) }
        let usr = system.fstab.first { $0.mountPoint == "/usr" }?.partition
        for number in [system.rootPartition, usr].compactMap({ $0 }) {
            guard let volume = volumes.first(where: { $0.number == number }) else { continue }
            let filesystem = modules.need(ofFilesystem: volume.traits.mount?.type ?? volume.kindName)
            add(filesystem)
            for name in filesystem.modules.prefix(1) {
                modules.softNeeds(of: name, for: filesystem.reason).forEach(add)
            }
            for container in volume.inside?.containers ?? [] {
                switch container {
                case .luks(_, let cipher, _):
                    add(modules.need(named: "dm_crypt", for: "the encrypted volume"))
                    modules.needs(ofCipher: cipher ?? "").forEach(add)
                case .mirror: add(modules.need(named: "raid1", for: "the array"))
                }
            }
            if volume.logicalVolume != nil { add(modules.need(named: "dm_mod", for: "logical volumes")) }
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
    /// - Parameter isUnified: whether it is in a unified kernel image.
    static func read(
        _ path: String, in anchor: borrowing AnchoredFolder, isUnified: Bool = false
    ) throws(BootFileError) -> Initramfs {
        let file: OwnedDescriptor
        do throws(SystemCallError) { file = try anchor.openFile(path) } catch { throw .unreadable(why: "\(error)") }
        let stream = FileStream(file, path)
        guard isUnified else { return try read(stream) }
        let head = try stream.bytes(count: PEImage.headByteCount)
        let image = try PEImage(head: head, byteCount: Int(clamping: anchor.byteCount(of: path) ?? 0))
        guard let section = image.section(".initrd") else { throw .damaged(what: "it holds no initramfs") }
        try stream.move(to: section.range)
        return try read(stream)
    }

    /// Reads an initramfs from any stream.
    static func read(_ stream: any ByteStream) throws(BootFileError) -> Initramfs {
        try InitramfsReader.read(stream, unpack: ProgramStream.unpack)
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
