// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import LinuxSystem
import SystemAccess
import SystemPackage

extension BootRepairExecutor {
    /// initramfs-tools' list of modules.
    private static let moduleList = "/etc/initramfs-tools/modules"
    /// Configurations that override a host-only one while the generator runs.
    private static let toolsOverride = "/etc/initramfs-tools/conf.d/zz-reforge"
    private static let dracutOverride = "/etc/dracut.conf.d/zz-reforge.conf"

    /// Makes a new initramfs, reads it, and puts the old one back unless the new one holds the modules.
    mutating func rebuildInitramfs(
        _ rebuild: InitramfsRebuild, _ tree: SystemTree?, _ log: (String) -> Void
    ) throws(SystemCallError) {
        guard let tree, plan.systemName != nil else {
            throw SystemCallError("open", TreePlace.system.name, .noSuchFileOrDirectory)
        }
        let anchor = try anchored(rebuild.place, tree)
        let isNew = anchor.byteCount(of: rebuild.path) == nil
        try keepAll(of: rebuild.version, tree)
        var problem: String?
        do throws(SystemCallError) {
            problem = try make(rebuild, tree, log)
        } catch { problem = "\(error)" }
        guard let problem else {
            outcome.changed.append(
                isNew
                    ? "made \(rebuild.path)" : "rebuilt \(rebuild.path); the old one is kept as \(rebuild.keptName)")
            return
        }
        let kept = rebuild.keptPath
        guard anchor.byteCount(of: kept) != nil else {
            pending.append("\(rebuild.path) could not be made: \(problem)")
            return
        }
        do throws(SystemCallError) {
            try anchor.rename(kept, to: rebuild.path)
            pending.append("\(rebuild.path) could not be rebuilt: \(problem). The old one is in its place again")
        } catch {
            pending.append(
                "\(rebuild.path) could not be rebuilt: \(problem). The old one is kept as \(kept) and could not be put "
                    + "back: \(error)")
        }
    }

    /// Runs the generator with its configuration.
    /// - Returns: why its result does not serve, as a sentence part; `nil` if it does.
    private mutating func make(
        _ rebuild: InitramfsRebuild, _ tree: SystemTree, _ log: (String) -> Void
    ) throws(SystemCallError) -> String? {
        // A generator that ran before may have made it, too: those of a distribution copy it to the loader's partition.
        if rebuild.place != .system, Self.defect(of: rebuild, try anchored(rebuild.place, tree), tree) == nil {
            return nil
        }
        let system = try tree.anchored()
        defer {
            for path in [Self.toolsOverride, Self.dracutOverride] { _ = try? system.remove(path) }
        }
        let configured = try configure(rebuild, system)
        var problem: String?
        do throws(SystemCallError) {
            let output = try runProgram(rebuild.command, tree, log)
            let words = rebuild.command.joined(separator: " ")
            if !output.succeeded { problem = "`\(words)` failed (\(output.ending)): \(output.lastWords)" }
            if problem == nil { problem = Self.defect(of: rebuild, try anchored(rebuild.place, tree), tree) }
        } catch { problem = "\(error)" }
        guard let configured else { return problem }
        guard problem == nil else {
            do throws(SystemCallError) { try system.write(configured, to: Self.moduleList) } catch {
                problem = "\(problem ?? ""); \(Self.moduleList) still names its modules: \(error)"
            }
            return problem
        }
        outcome.changed.append("named \(rebuild.modules.joined(separator: ", ")) in \(Self.moduleList)")
        return nil
    }

    /// Keeps the old files of all rebuilds for a kernel, before the first of them runs: a generator can write more than
    /// its own file. Where one cannot be kept, those that were moved away go back: nothing will be made in their place.
    private mutating func keepAll(of version: String, _ tree: SystemTree) throws(SystemCallError) {
        var moved: [InitramfsRebuild] = []
        for step in plan.steps {
            guard case .rebuildInitramfs(let rebuild) = step.verb, rebuild.version == version else { continue }
            guard !keptImages.contains(Self.key(rebuild)) else { continue }
            do throws(SystemCallError) {
                if try keep(rebuild, try anchored(rebuild.place, tree), tree) { moved.append(rebuild) }
            } catch {
                for old in moved {
                    keptImages.remove(Self.key(old))
                    let anchor = try anchored(old.place, tree)
                    if anchor.byteCount(of: old.path) == nil { try anchor.rename(old.keptPath, to: old.path) }
                }
                throw error
            }
            keptImages.insert(Self.key(rebuild))
        }
    }

    private static func key(_ rebuild: InitramfsRebuild) -> String { "\(rebuild.place.rawValue):\(rebuild.path)" }

    /// Keeps the old file: as a copy where it fits beside the new one, else by moving it.
    /// - Returns: whether it was moved.
    private func keep(
        _ rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder, _ tree: SystemTree
    ) throws(SystemCallError) -> Bool {
        guard let byteCount = anchor.byteCount(of: rebuild.path) else { return false }
        // What an interrupted rebuild left is not worth keeping, and must not replace what it kept.
        if anchor.byteCount(of: rebuild.keptPath) != nil, Self.isDamaged(rebuild.path, rebuild, anchor),
            !Self.isDamaged(rebuild.keptPath, rebuild, anchor)
        {
            return false
        }
        // The path may lead through a mount of the tree, as /boot.
        let folder = FilePath(rebuild.path).removingLastComponent().string
        let place: FilePath = rebuild.place == .system ? try tree.place(folder) : anchor.path
        let free = Files.freeByteCount(place) ?? 0
        // The generator writes the new one beside the one in place, and it may be larger.
        guard free > byteCount else { throw SystemCallError("rebuild", rebuild.path, .noSpace) }
        if free / 4 > byteCount {
            try anchor.duplicate(rebuild.path, as: rebuild.keptName)
            return false
        }
        try anchor.rename(rebuild.path, to: rebuild.keptPath)
        return true
    }

    private static func isDamaged(
        _ path: String, _ rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder
    ) -> Bool {
        do throws(BootFileError) {
            _ = try InitramfsInspector.read(path, in: anchor, isUnified: rebuild.isUnified)
            return false
        } catch {
            if case .damaged = error { return true }
            return false
        }
    }

    /// Names the modules in the generator's configuration.
    /// - Returns: the old contents of `moduleList`; `nil` if it is not changed.
    private func configure(
        _ rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder
    ) throws(SystemCallError) -> [UInt8]? {
        let mark = "# Made by Reforge while it rebuilds an initramfs; remove it.\n"
        // dracut.conf(5). On its own command line the same is said by options.
        if rebuild.generator == .dracut, rebuild.command.first != "dracut", anchor.exists("/etc/dracut.conf.d") {
            let added = rebuild.modules.isEmpty ? "" : "add_drivers+=\" \(rebuild.modules.joined(separator: " ")) \"\n"
            // Words with quotes could end the line's own.
            let words = rebuild.commandLine.filter { word in !word.contains { "\"'`$\\".contains($0) } }
            let line = words.isEmpty ? "" : "kernel_cmdline+=\" \(words.joined(separator: " ")) \"\n"
            try anchor.write(Array("\(mark)hostonly=\"no\"\n\(added)\(line)".utf8), to: Self.dracutOverride)
        }
        guard rebuild.generator == .initramfsTools else { return nil }
        if rebuild.isHostOnly, anchor.exists("/etc/initramfs-tools/conf.d") {
            try anchor.write(Array("\(mark)MODULES=most\n".utf8), to: Self.toolsOverride)
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
    private static func defect(
        of rebuild: InitramfsRebuild, _ anchor: borrowing AnchoredFolder, _ tree: SystemTree
    ) -> String? {
        guard let system = try? tree.anchored(),
            let modules = InitramfsInspector.modules(of: rebuild.version, in: system)
        else { return "the modules of \(rebuild.version) cannot be read" }
        do throws(BootFileError) {
            let new = try InitramfsInspector.read(rebuild.path, in: anchor, isUnified: rebuild.isUnified)
            let unmet = modules.unmet(rebuild.needs, by: new.modules(for: rebuild.version))
            let lost = InitramfsReference.lost(rebuild.references, from: new.references)
            guard lost.isEmpty else { return "the new one no longer names \(lost.map(\.text).joined(separator: ", "))" }
            guard !unmet.isEmpty else { return nil }
            let names = modules.missing(rebuild.needs, from: new.modules(for: rebuild.version))
            return "the new one still lacks \(names.joined(separator: ", "))"
        } catch { return "the new one cannot be read: \(error)" }
    }
}
