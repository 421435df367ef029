// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

extension IdentityExecutor {
    /// Executes the steps on the mounted system.
    mutating func changeTree() throws(SystemCallError) {
        let steps = plan.steps.filter { !$0.verb.isOfVolumes }
        let hasRecord = !plan.volumeChanges.isEmpty || plan.hasRecord
        guard !steps.isEmpty || hasRecord || !physicalVolumes.isEmpty else { return }
        let tree = try opened()
        do throws(SystemCallError) {
            let pendingBefore = outcome.pending.count
            var isPrepared = false
            for step in steps {
                if step.verb.needsPrograms, !isPrepared {
                    try tree.prepareForPrograms(currentVolumes, kernelName: plan.disk.kernelName)
                    isPrepared = true
                }
                log("\(step.part.rawValue): \(step)")
                do throws(SystemCallError) { try run(step, tree) } catch {
                    outcome.pending.append("could not \(step): \(error)")
                }
            }
            try followPhysicalVolumes(try tree.anchored())
            // With a reference left behind, the next run needs the record.
            if hasRecord, !plan.keepsRecord, outcome.pending.count == pendingBefore {
                let anchor = try tree.anchored()
                if anchor.kind(of: IdentityFiles.record) != nil { try anchor.remove(IdentityFiles.record) }
            }
        } catch {
            try? tree.close()
            throw error
        }
        try tree.close()
    }

    /// The volumes with their identifiers as they are now: update-initramfs and grub-install look them up in /dev.
    private var currentVolumes: [BootVolume] {
        plan.volumes.map { volume in
            var volume = volume
            if let change = changes.first(where: { $0.old == volume.uuid }) { volume.uuid = change.new }
            return volume
        }
    }

    private mutating func run(_ step: IdentityStep, _ tree: SystemTree) throws(SystemCallError) {
        let anchor = try tree.anchored()
        switch step.verb {
        case .writeFile(let contents): try write(contents, step, anchor, tree)
        case .removeFiles(let paths):
            for path in paths where anchor.kind(of: path) != nil { try anchor.remove(path) }
            outcome.changed.append(Self.done(step))
        case .renewSSHKeys(let paths): try renewKeys(paths, tree)
        case .runTool(let tool): try run(tool, tree)
        case .replaceIdentifiers(let path): try replaceIdentifiers(in: path, anchor, tree)
        case .changeVolume, .renewGroup: break
        }
    }

    /// The step as a sentence on what was done.
    private static func done(_ step: IdentityStep) -> String { "\(step.part.rawValue): \(step)" }

    private mutating func write(
        _ contents: IdentityVerb.FileContents, _ step: IdentityStep, _ anchor: borrowing AnchoredFolder,
        _ tree: SystemTree
    ) throws(SystemCallError) {
        // The link stays, and leads to the new contents; a broken one becomes a file.
        let path = anchor.exists(contents.path) ? try anchor.linkTarget(of: contents.path) : contents.path
        let now = anchor.exists(path) ? try anchor.readWhole(path, limit: IdentityFiles.longestText) : nil
        guard now != contents.to || contents.from == nil && now == nil else { return }
        guard now == contents.from else {
            outcome.pending.append("could not \(step): \(contents.path) has changed since the survey")
            return
        }
        if now == nil { try anchor.makeFolders(FilePath(path).removingLastComponent().string) }
        try anchor.replace(path, with: contents.to)
        if let permissions = contents.permissions { try anchor.setPermissions(path, permissions) }
        outcome.changed.append(Self.done(step))
    }

    private mutating func replaceIdentifiers(
        in path: String, _ anchor: borrowing AnchoredFolder, _ tree: SystemTree
    ) throws(SystemCallError) {
        let path = try anchor.linkTarget(of: path)
        let old = try anchor.readWhole(path, limit: IdentityFiles.longestText)
        guard let new = IdentifierText.replacing(changes, in: old) else { return }
        try anchor.replace(path, with: new)
        outcome.changed.append("\(path) names the new identifiers")
    }

    /// LVM's list of devices names physical volumes by their ids without hyphens (lvmdevices(8)).
    private mutating func followPhysicalVolumes(_ anchor: borrowing AnchoredFolder) throws(SystemCallError) {
        let path = "/etc/lvm/devices/system.devices"
        guard !physicalVolumes.isEmpty, anchor.exists(path) else { return }
        var bytes = try anchor.readWhole(path, limit: IdentityFiles.longestText)
        let before = bytes
        for (old, new) in physicalVolumes {
            let (wanted, replacement) = (Array(old.utf8.filter { $0 != 45 }), Array(new.utf8.filter { $0 != 45 }))
            while let start = ByteSearch.first(wanted, in: bytes[...]) {
                bytes.replaceSubrange(start..<start + wanted.count, with: replacement)
            }
        }
        guard bytes != before else { return }
        try anchor.replace(path, with: bytes)
        outcome.changed.append("\(path) names the new physical volumes")
    }

    // MARK: programs

    private mutating func run(_ tool: ToolRun, _ tree: SystemTree) throws(SystemCallError) {
        let output = try tree.run(tool.command)
        for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
        let words = tool.command.joined(separator: " ")
        if output.succeeded {
            outcome.changed.append("ran \(words)")
            return
        }
        let sentence = "`\(words)` failed (\(output.ending)): \(output.lastWords)"
        switch tool.success {
        case .optional(let remark): outcome.warnings.append("\(sentence). \(remark)")
        case .needed(let consequence): outcome.pending.append("\(consequence): \(sentence)")
        case .file(let path): outcome.pending.append("\(path) may be incomplete: \(sentence)")
        }
    }

    /// Sets the old keys aside, makes new ones, and removes the old ones. If that fails, the old ones return: without
    /// any, nobody could log in to finish.
    private mutating func renewKeys(_ paths: [String], _ tree: SystemTree) throws(SystemCallError) {
        let anchor = try tree.anchored()
        var aside: [(from: String, to: String)] = []
        let label = paths.lazy.filter { $0.hasSuffix("_key") }.compactMap { anchor.securityLabel(of: $0) }.first
        let publicLabel = paths.lazy.filter { $0.hasSuffix(".pub") }.compactMap { anchor.securityLabel(of: $0) }.first
        func restore() {
            for (from, to) in aside {
                if anchor.kind(of: from) != nil { try? anchor.remove(from) }
                try? anchor.rename(to, to: from)
            }
        }
        do throws(SystemCallError) {
            let prefix = "/etc/ssh/\(IdentityFiles.setAside)"
            for path in paths where anchor.kind(of: path) != nil {
                // Set aside by an interrupted run: the old key, unless there is a newer one.
                if path.hasPrefix(prefix) {
                    let original = "/etc/ssh/\(path.dropFirst(prefix.count))"
                    if anchor.kind(of: original) == nil { aside.append((original, path)) }
                    continue
                }
                let other = prefix + path.dropFirst("/etc/ssh/".count)
                if anchor.kind(of: other) != nil { try anchor.remove(other) }
                try anchor.rename(path, to: other)
                aside.append((path, other))
            }
            let output = try tree.run(["ssh-keygen", "-A"])
            for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
            let made = anchor.names(in: "/etc/ssh", atMost: IdentityFiles.mostNames)
                .filter { $0.hasPrefix("ssh_host_") }.map { "/etc/ssh/\($0)" }
            let hasKey = made.contains { path in
                path.hasSuffix("_key") && (try? anchor.readWhole(path, limit: 1 << 16))?.isEmpty == false
            }
            guard output.succeeded, hasKey else {
                restore()
                outcome.pending.append(
                    "the SSH host keys are kept: `ssh-keygen -A` failed (\(output.ending)): \(output.lastWords)")
                return
            }
            for path in made {
                if let label = path.hasSuffix(".pub") ? publicLabel ?? label : label {
                    try anchor.setSecurityLabel(label, of: path)
                }
            }
        } catch {
            restore()
            throw error
        }
        for (_, old) in aside { try anchor.remove(old) }
        for path in paths where path.hasPrefix("/etc/ssh/\(IdentityFiles.setAside)") && anchor.kind(of: path) != nil {
            try anchor.remove(path)
        }
        outcome.changed.append("ssh-keys: new SSH host keys were made by the system's ssh-keygen")
    }
}
