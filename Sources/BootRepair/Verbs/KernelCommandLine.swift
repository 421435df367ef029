// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage

/// The kernel command line for what kernel-install(8) writes in a system that has no file with one.
///
/// kernel-install would take that of the running kernel (`90-loaderentry.install`), which is another machine's.
package struct KernelCommandLine: Codable, Equatable, Sendable {
    /// The file from which kernel-install reads it.
    static let path = "/etc/kernel/cmdline"
    /// The files from which kernel-install reads it.
    static let paths = [path, "/usr/lib/kernel/cmdline"]

    /// The boot entry whose options are kept, as they are when the program runs; `nil` if there is none.
    package var entry: TreePath?
    /// The line where no entry has one; `nil` if none can be made.
    package var otherwise: String?

    package init(entry: TreePath? = nil, otherwise: String? = nil) {
        self.entry = entry
        self.otherwise = otherwise
    }
}

extension BootTarget {
    /// The command line that kernel-install is given; `nil` if the system has its own.
    var kernelCommandLine: KernelCommandLine? {
        guard let system, let finding = survey.findings[SystemdBoot()], !finding.hasCommandLine else { return nil }
        let entry = finding.own.first { $0.optionsLine != nil && $0.file.place != .system }
        var line = KernelCommandLine(entry: entry?.file)
        if let root = survey.volume(system.rootPartition), root.isPartition, let uuid = root.uuid {
            let subvolume = system.rootSubvolume ?? ""
            let flags = subvolume.isEmpty ? "" : " rootflags=subvol=\(subvolume)"
            if !subvolume.contains(where: \.isWhitespace) { line.otherwise = "root=UUID=\(uuid)\(flags) ro" }
        }
        return line
    }

    /// The reason kernel-install cannot write an entry; `nil` if it can.
    var obstacleToKernelInstall: BootObstacle? {
        if let line = kernelCommandLine, line.entry == nil, line.otherwise == nil {
            return BootObstacle(
                "the system has no \(KernelCommandLine.path): a new entry would get the command line of this start")
        }
        return obstacleToPrograms ?? obstacleToESP
    }
}

extension BootRepairExecutor {
    /// Runs a program of the system; kernel-install with the command line of the plan.
    func runProgram(
        _ command: [String], _ tree: SystemTree, _ log: (String) -> Void
    ) throws(SystemCallError) -> ChildProcess.Output {
        let isMade = command.first == "kernel-install" ? try writeCommandLine(tree) : false
        defer { if isMade { _ = try? tree.anchored().remove(KernelCommandLine.path) } }
        let output = try tree.run(command)
        for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
        return output
    }

    /// - Returns: whether the file was made.
    private func writeCommandLine(_ tree: SystemTree) throws(SystemCallError) -> Bool {
        let system = try tree.anchored()
        guard let line = plan.kernelCommandLine, !KernelCommandLine.paths.contains(where: { system.exists($0) }) else {
            return false
        }
        var text = line.otherwise
        if let entry = line.entry {
            let bytes = try anchored(entry.place, tree).read(entry.path, limit: LoaderEntry.largestFile)
            text = LoaderEntry.options(String(decoding: bytes, as: UTF8.self)) ?? text
        }
        guard let text else { throw SystemCallError("read", KernelCommandLine.path, .noSuchFileOrDirectory) }
        if !system.exists("/etc/kernel") { try system.makeFolders("/etc/kernel") }
        try system.write(Array("\(text)\n".utf8), to: KernelCommandLine.path)
        return true
    }
}
