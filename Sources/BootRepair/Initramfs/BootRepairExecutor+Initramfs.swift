// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem
import SystemAccess
import SystemPackage

extension BootRepairExecutor {
    /// initramfs-tools' list of modules, and a configuration that overrides MODULES=dep while it runs.
    private static let moduleList = "/etc/initramfs-tools/modules"
    private static let allDrivers = "/etc/initramfs-tools/conf.d/zz-reforge"

    /// Makes a new initramfs, reads it, and puts the old one back unless the new one holds the modules.
    mutating func rebuildInitramfs(
        _ rebuild: InitramfsRebuild, _ tree: SystemTree?, _ log: (String) -> Void
    ) throws(SystemCallError) {
        guard let tree, plan.systemName != nil else {
            throw SystemCallError("open", TreePlace.system.name, .noSuchFileOrDirectory)
        }
        let anchor = try tree.anchored()
        let folder = FilePath(rebuild.path).removingLastComponent()
        let old = anchor.byteCount(of: rebuild.path)
        if let old { try keep(old, rebuild, try tree.place(folder.string)) }
        let configured = try configure(rebuild, anchor)
        defer { _ = try? anchor.remove(Self.allDrivers) }
        var problem: String?
        do throws(SystemCallError) {
            let output = try tree.run(rebuild.command)
            for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
            let words = rebuild.command.joined(separator: " ")
            if !output.succeeded { problem = "`\(words)` failed (\(output.ending)): \(output.lastWords)" }
        } catch { problem = "\(error)" }
        if problem == nil { problem = Self.defect(of: rebuild, try tree.anchored()) }
        guard let problem else {
            outcome.changed.append(
                old == nil
                    ? "made \(rebuild.path)"
                    : "rebuilt \(rebuild.path); the old one is kept as \(rebuild.keptName)")
            if !rebuild.modules.isEmpty, configured != nil {
                outcome.changed.append("named \(rebuild.modules.joined(separator: ", ")) in \(Self.moduleList)")
            }
            return
        }
        if let configured { try anchor.write(configured, to: Self.moduleList) }
        guard old != nil else {
            pending.append("\(rebuild.path) could not be made: \(problem)")
            return
        }
        try anchor.rename(folder.appending(rebuild.keptName).string, to: rebuild.path)
        pending.append("\(rebuild.path) could not be rebuilt: \(problem). The old one is in its place again")
    }

    /// Keeps the old file: as a copy where it fits beside the new one, else by moving it.
    private func keep(
        _ byteCount: UInt64, _ rebuild: InitramfsRebuild, _ folder: FilePath
    ) throws(SystemCallError) {
        let anchor = try AnchoredFolder(folder)
        let free = Files.freeByteCount(folder) ?? 0
        // The generator writes the new one beside the one in place, and it may be larger.
        guard free > byteCount else { throw SystemCallError("rebuild", rebuild.path, .noSpace) }
        if free / 4 > byteCount {
            try anchor.duplicate(rebuild.name, as: rebuild.keptName)
        } else {
            try anchor.rename(rebuild.name, to: rebuild.keptName)
        }
    }

    /// Names the modules in the generator's configuration.
    /// - Returns: the old contents of `moduleList`; `nil` if it is not changed.
    private func configure(
        _ rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder
    ) throws(SystemCallError) -> [UInt8]? {
        guard rebuild.generator == .initramfsTools else { return nil }
        if rebuild.isHostOnly, anchor.exists("/etc/initramfs-tools/conf.d") {
            try anchor.write(
                Array("# Made by Reforge while it rebuilds an initramfs; remove it.\nMODULES=most\n".utf8),
                to: Self.allDrivers)
        }
        // initramfs-tools(7): one module a line, with its dependencies.
        let old = (try? anchor.read(Self.moduleList)) ?? []
        let text = String(decoding: old, as: UTF8.self)
        let named = Set(
            text.split(separator: "\n").compactMap { $0.split(separator: " ").first.map { ModuleName($0) } })
        let added = rebuild.modules.filter { !named.contains(ModuleName($0)) }
        guard !added.isEmpty, anchor.exists("/etc/initramfs-tools") else { return nil }
        let end = text.isEmpty || text.hasSuffix("\n") ? "" : "\n"
        try anchor.write(Array((text + end + added.map { "\($0)\n" }.joined()).utf8), to: Self.moduleList)
        return old
    }

    /// Why the file that the generator wrote does not serve, as a sentence part; `nil` if it does.
    private static func defect(of rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder) -> String? {
        guard let modules = InitramfsInspector.modules(of: rebuild.version, in: anchor) else {
            return "the modules of \(rebuild.version) cannot be read"
        }
        do throws(BootFileError) {
            let new = try InitramfsInspector.read(rebuild.path, in: anchor)
            let unmet = modules.unmet(rebuild.needs, by: new.modules(for: rebuild.version))
            guard !unmet.isEmpty else { return nil }
            let names = modules.missing(rebuild.needs, from: new.modules(for: rebuild.version))
            return "the new one still lacks \(names.joined(separator: ", "))"
        } catch { return "the new one cannot be read: \(error)" }
    }
}
