// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A RAID 1 that the kernel runs during the lifetime of this object, degraded if members are missing. Needs mdadm.
///
/// A write to a member alone would go unnoticed by md: when the other member returns, both would count as equal.
package final class AssembledMirror {
    /// The node, `/dev/mdN`.
    package let path: FilePath
    private var isRunning = true

    /// Starts the array on these nodes and no others: another disk may hold a copy of a member.
    package init(of members: [FilePath]) throws(SystemCallError) {
        guard ChildProcess.canFind("mdadm") else {
            throw SystemCallError("start", "the array: mdadm is not installed", .noSuchFileOrDirectory)
        }
        guard let number = (100..<512).first(where: { !Files.exists(FilePath("/sys/block/md\($0)")) }) else {
            throw SystemCallError("start", "the array", .noSpace)
        }
        path = FilePath("/dev/md\(number)")
        // mdadm(8): without its configuration, which may name other arrays; --run starts a degraded one.
        let output = try Self.run(
            ["--assemble", path.string, "--config=none", "--run", "--auto=md"] + members.map(\.string))
        guard output.succeeded, Files.exists(path) else {
            isRunning = false
            _ = try? Self.run(["--stop", path.string])
            throw SystemCallError(
                "run", "mdadm --assemble \(path) (\(output.ending): \(output.lastWords))", .invalidArgument)
        }
    }

    deinit { stop() }

    /// Stops the array. Retries, because another program (udev, a probe) may have it open at this moment.
    /// - Returns: whether it is stopped.
    @discardableResult
    package func stop() -> Bool {
        var tries = 10
        while isRunning, tries > 0 {
            tries -= 1
            if (try? Self.run(["--stop", path.string]))?.succeeded == true {
                isRunning = false
            } else {
                SystemFacts.sleep(seconds: 0.3)
            }
        }
        return !isRunning
    }

    private static func run(_ arguments: [String]) throws(SystemCallError) -> ChildProcess.Output {
        // Without udev, mdadm would wait for its nodes.
        try ChildProcess.run(
            ["mdadm"] + arguments, environment: ChildProcess.plainEnvironment + ["MDADM_NO_UDEV=1"],
            timeoutSeconds: 60)
    }
}
