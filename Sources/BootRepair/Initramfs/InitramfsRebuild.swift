// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles

/// A new initramfs, made by the installed system's own generator. The old one is kept, and put back unless the new one
/// holds the modules.
package struct InitramfsRebuild: Codable, Equatable, Sendable {
    /// The suffix of the kept file.
    package static let suffix = ".before-reforge"

    /// The version of the kernel: the name of its folder below /lib/modules.
    package var version: String
    /// The initramfs, or the unified kernel image with it, inside `place`.
    package var path: String
    package var place: TreePlace
    /// Whether it is a unified kernel image.
    package var isUnified: Bool
    /// Whether the EFI system partition must be mounted: the distribution's hooks copy the new one there.
    package var needsESP: Bool
    package var generator: InitramfsGenerator
    /// The generator's program and its arguments.
    package var command: [String]
    /// Modules that the generator's configuration names from now on.
    package var modules: [String]
    /// Whether the generator is set to include the drivers of the running machine only, which the confinement hides.
    package var isHostOnly: Bool
    /// What the new one must hold.
    package var needs: [ModuleNeed]
    /// The references of the old one that the new one must have, too: without cryptroot's entry, an encrypted root is
    /// not opened.
    package var references: [InitramfsReference] = []
    /// Words of dracut's own kernel command line that kernel-install's dracut must keep.
    package var commandLine: [String] = []

    /// Plans a rebuild.
    /// - Parameters:
    ///   - modules: the missing modules.
    ///   - commandLine: words of dracut's own kernel command line to keep.
    /// - Returns: `nil` for an unknown generator.
    package init?(
        _ generator: InitramfsGenerator, version: String, path: String, modules: [String], isHostOnly: Bool,
        needs: [ModuleNeed], commandLine: [String] = []
    ) {
        switch generator {
        case .initramfsTools:
            // update-initramfs(8): -c also where update_initramfs=no forbids -u; -t, for releases up to Debian 9, also
            // where it is not the file that the tool made last.
            command = ["update-initramfs", "-c", "-t", "-k", version]
        case .dracut:
            // Host-only would look at the confinement, which shows neither udev's data nor the root's real mount.
            var command = ["dracut", "--force", "--no-hostonly"]
            if !modules.isEmpty { command += ["--add-drivers", modules.joined(separator: " ")] }
            if !commandLine.isEmpty { command += ["--kernel-cmdline", commandLine.joined(separator: " ")] }
            self.command = command + ["--kver", version, path]
        case .mkinitcpio:
            command = ["mkinitcpio", "-S", "autodetect", "-k", version, "-g", path]
        case .unknown: return nil
        }
        place = .system
        isUnified = false
        needsESP = false
        self.version = version
        self.path = path
        self.generator = generator
        self.modules = modules
        self.isHostOnly = isHostOnly
        self.needs = needs
    }

    /// Plans a rebuild of what a loader starts from a partition of its own, by the system's kernel-install(8).
    /// - Parameter kernelFile: the kernel in the system.
    package init(
        kernelInstall version: String, kernelFile: String, path: String, in place: TreePlace, isUnified: Bool,
        generator: InitramfsGenerator, modules: [String], needs: [ModuleNeed]
    ) {
        command = ["kernel-install", "add", version, kernelFile]
        self.version = version
        self.path = path
        self.place = place
        self.isUnified = isUnified
        self.generator = generator
        // Those of initramfs-tools are named when the file is made that kernel-install copies.
        self.modules = generator == .initramfsTools ? [] : modules
        self.needs = needs
        isHostOnly = true
        needsESP = true
    }

    /// The name of the file.
    var name: String { path.split(separator: "/").last.map(String.init) ?? path }
    /// The name under which the old one is kept, beside it.
    package var keptName: String { name + Self.suffix }
    var keptPath: String { path + Self.suffix }
}

extension BootRepairStep {
    /// - Parameter isNew: whether there is no initramfs yet.
    package static func rebuildInitramfs(_ rebuild: InitramfsRebuild, isNew: Bool) -> BootRepairStep {
        let command = rebuild.command.joined(separator: " ")
        let file = rebuild.path + (rebuild.place == .system ? "" : " on \(rebuild.place.name)")
        return BootRepairStep(
            isNew
                ? "make \(file) with the installed system's `\(command)`"
                : "rebuild \(file) with the installed system's `\(command)`; the old one is kept as "
                    + rebuild.keptName,
            .rebuildInitramfs(rebuild))
    }
}
