// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

extension Customization {
    /// The time limit of a hook, in seconds.
    package static let hookSeconds: Double = 3600
    /// The bytes of each of a hook's outputs that are kept.
    static let keptOutput = 4096

    /// Runs hooks in the system on a disk, one after the other, confined like the system's own programs: they reach this
    /// disk and nothing else of the machine. The first one that fails is the last one that runs.
    /// - Parameters:
    ///   - disk: opened `.readOnly`; the system is mounted for writing.
    ///   - input: the standard input of each hook.
    ///   - options: how the system is found, as in `survey`.
    ///   - log: receives each hook and its output.
    /// - Returns: a result of each hook that ran, or was to run first after the end of its predecessor.
    /// - Throws: `BootRepairError` if there is no system, or it cannot be mounted.
    package static func run(
        _ hooks: [HookScript], on disk: BlockDevice, input: [UInt8],
        options: BootRepairOptions = BootRepairOptions(touchNVRAM: false), log: (String) -> Void = { _ in }
    ) throws(BootRepairError) -> [HookResult] {
        let boot = try BootRepair.survey(disk: disk, options: options, log: log)
        if let number = boot.hibernated { throw .hibernated(number) }
        guard let system = boot.system else {
            throw .system(
                SystemCallError(
                    "find", "the system for the hooks (\(boot.systemProblem ?? "no installed Linux system"))",
                    .noSuchFileOrDirectory))
        }
        var mounts = SystemMounts(of: system, volumes: boot.volumes, esp: boot.esp?.partition)
        do throws(SystemCallError) {
            let (tree, problems) = try mounts.open(
                of: boot.volumes, disk: disk, readOnly: false, esp: boot.esp?.partition, keys: options.luksKeyFiles)
            for problem in problems { log("\(problem.path) is not mounted for the hooks: \(problem.reason)") }
            var results: [HookResult] = []
            do throws(SystemCallError) {
                try tree.prepareForPrograms(boot.volumes, kernelName: boot.disk.kernelName)
                for hook in hooks {
                    log("hook \(hook.name)")
                    let result = run(hook, in: tree, input, log)
                    results.append(result)
                    if !result.succeeded { break }
                }
            } catch {
                try? tree.close()
                throw error
            }
            // They did run: what failed is said with the last one.
            var problem: String?
            do throws(SystemCallError) { try tree.close() } catch { problem = "\(error)" }
            do { try disk.dropCache() } catch { problem = problem ?? "\(error)" }
            if let problem, !results.isEmpty {
                let last = results.count - 1
                results[last].ending += ", and the system's filesystems were not written back: \(problem)"
                results[last].exitStatus = nil
            }
            return results
        } catch { throw .system(error) }
    }

    private static func run(
        _ hook: HookScript, in tree: SystemTree, _ input: [UInt8], _ log: (String) -> Void
    ) -> HookResult {
        let start = SystemFacts.monotonicSeconds()
        do throws(SystemCallError) {
            let output = try tree.run(
                script: hook.bytes, named: hook.name, input: input, timeoutSeconds: hookSeconds)
            for line in (output.text + output.errorText).split(separator: "\n") { log("  \(line)") }
            var status: Int32?
            if case .exited(let number) = output.ending { status = number }
            return HookResult(
                name: hook.name, ending: "\(output.ending)", exitStatus: status,
                output: end(of: output.text) + end(of: output.errorText),
                seconds: SystemFacts.monotonicSeconds() - start)
        } catch {
            return HookResult(
                name: hook.name, ending: "it did not start: \(error)", seconds: SystemFacts.monotonicSeconds() - start)
        }
    }

    /// The last bytes of a text, from the beginning of a line if there is one.
    static func end(of text: String) -> String {
        guard text.utf8.count > keptOutput else { return text }
        let tail = String(decoding: text.utf8.suffix(keptOutput), as: UTF8.self)
        guard let line = tail.firstIndex(of: "\n") else { return "… \(tail)" }
        return "…\n" + tail[tail.index(after: line)...]
    }
}
