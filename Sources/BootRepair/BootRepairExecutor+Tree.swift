// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage

extension BootRepairExecutor {
    /// Runs a program of the installed system.
    /// - Parameters:
    ///   - hasOtherwise: whether the verb has a fallback.
    ///   - loader: the name of the row that judges the written file.
    /// - Returns: `false` if the fallback must run.
    mutating func run(
        _ tool: ToolRun, hasOtherwise: Bool, by loader: String?, _ tree: SystemTree?, _ log: (String) -> Void
    ) throws(SystemCallError) -> Bool {
        guard let tree, plan.systemName != nil else {
            throw SystemCallError("open", TreePlace.system.name, .noSuchFileOrDirectory)
        }
        if case .file(let path) = tool.success {
            try rewrite(path, by: tool.command, judge: loader.flatMap(BootLoaders.named), tree, log)
            return true
        }
        let output = try runProgram(tool.command, tree, log)
        let words = tool.command.joined(separator: " ")
        if output.succeeded {
            outcome.changed.append("ran \(words)")
            return true
        }
        let sentence = "`\(words)` failed (\(output.ending)): \(output.lastWords)"
        if hasOtherwise {
            outcome.warnings.append(sentence)
            return false
        }
        switch tool.success {
        case .optional(let remark): outcome.warnings.append("\(sentence). \(remark)")
        case .needed(let consequence): pending.append("\(consequence): \(sentence)")
        case .file: break
        }
        return true
    }

    /// Runs a program that writes a file, and restores the old file if the new one is worse.
    private mutating func rewrite(
        _ path: String, by command: [String], judge: (any BootLoader)?, _ tree: SystemTree, _ log: (String) -> Void
    ) throws(SystemCallError) {
        let volumes = plan.volumes
        let root = plan.mounts.first?.partition ?? 0
        func verdict(_ bytes: [UInt8]?) -> ConfigurationVerdict {
            judge?.judge(bytes, volumes: volumes, rootPartition: root) ?? ConfigurationVerdict()
        }
        let anchor = try tree.anchored()
        let old = try? anchor.read(path)
        let output = try runProgram(command, tree, log)
        let new = try? anchor.read(path)
        let before = verdict(old)
        let after = verdict(new)
        let words = command.joined(separator: " ")
        if output.succeeded, after.problems.isEmpty {
            // os-prober cannot see other disks from inside the confinement.
            let kept = Set(after.otherSystems.map(\.place))
            let lost = before.otherSystems.filter { !kept.contains($0.place) }.map { "\"\($0.title)\"" }
                .joined(separator: ", ")
            if !lost.isEmpty, let old, before.problems.isEmpty {
                try anchor.write(old, to: path)
                outcome.warnings.append(
                    "the \(path) that `\(words)` wrote lacks entries of other systems (\(lost)): "
                        + "the old file is kept")
                return
            }
            if !lost.isEmpty {
                outcome.warnings.append(
                    "the new \(path) lacks entries of the old one (\(lost)), which did not start this system. If they "
                        + "are other systems, run `\(words)` in the started system to find them again")
            }
            if new != old { outcome.changed.append("rewrote \(path)") }
            return
        }
        let sentence =
            output.succeeded
            ? "the \(path) that `\(words)` wrote is invalid (\(after.problems.joined(separator: "; ")))"
            : "`\(words)` failed (\(output.ending)): \(output.lastWords)"
        let oldIsRight = before.problems.isEmpty
        if new != old, let old, oldIsRight || !output.succeeded {
            try anchor.write(old, to: path)
        }
        if oldIsRight {
            outcome.warnings.append("\(sentence); the old file is kept: it finds this system's root")
        } else {
            pending.append("\(sentence); the system may not start")
        }
    }

    /// Replaces words of a file that still have their expected text.
    mutating func replaceWords(_ edit: FileEdit, _ tree: SystemTree?) throws(SystemCallError) {
        let anchor = try anchored(edit.file.place, tree)
        // Bytes: a comment need not be UTF-8, and is kept.
        let old = try anchor.readWhole(edit.file.path, limit: Self.largestText)
        let (new, missed) = WordChange.apply(edit.changes, to: old)
        if let first = missed.first {
            pending.append(
                "\(edit.file.path) has changed since the survey: `\(first.from)` is not in line \(first.line + 1)")
        }
        guard new != old else { return }
        try anchor.replace(edit.file.path, with: new)
        outcome.changed.append(edit.done)
    }

    /// Removes a file; that it is missing already is no failure.
    mutating func remove(_ removal: FileRemoval, _ tree: SystemTree?) throws(SystemCallError) {
        let anchor = try anchored(removal.file.place, tree)
        guard anchor.exists(removal.file.path) else { return }
        try anchor.remove(removal.file.path)
        outcome.changed.append(removal.done)
    }

    /// Copies files after reading all of them and checking the free space.
    mutating func makeCopies(_ copies: FileCopies, _ tree: SystemTree?) throws(SystemCallError) {
        var files: [(path: String, bytes: [UInt8])] = []
        for file in copies.files {
            let source = try anchored(file.from.place, tree)
            guard file.isRequired || source.exists(file.from.path) else { continue }
            files.append((file.to, try source.read(file.from.path, limit: Self.largestCopy)))
        }
        let target = try anchored(copies.place, tree)
        let needed = files.reduce(0 as UInt64) { $0 + UInt64($1.bytes.count) + 65536 }
        guard let free = Files.freeByteCount(target.path), free >= needed else {
            throw SystemCallError("write \(copies.name) to", copies.place.name, .noSpace)
        }
        for file in files { try target.makeFolders(FilePath(file.path).removingLastComponent().string) }
        var isChanged = false
        for file in files where (try? target.read(file.path, limit: Self.largestCopy)) != file.bytes {
            try target.write(file.bytes, to: file.path)
            isChanged = true
        }
        if isChanged { outcome.changed.append(copies.done) }
    }

    private static var largestCopy: Int { 64 << 20 }
    static var largestText: Int { 16 << 20 }
}
