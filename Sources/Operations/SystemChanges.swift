// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import Customization
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// What is changed in a system once its disk is complete: its identity, and what hooks do. Read and checked before the
/// first write, so that a mistake in it leaves the disk untouched.
package struct SystemChanges {
    package let identity: IdentityRequest?
    package let hooks: [HookScript]

    /// - Throws: status 64 for a request or a hook that makes no sense, 66 for a missing hook.
    package init(newIdentity: String?, hooks: [String]) throws(JobFailure) {
        do throws(IdentityRequestError) {
            identity = try newIdentity.map { text throws(IdentityRequestError) in try IdentityRequest(parsing: text) }
        } catch { throw JobFailure(.usage, "--new-identity: \(error.description.printable)") }
        do { self.hooks = try HookScript.read(hooks.map { FilePath($0) }) } catch {
            throw JobFailure(
                error is HookScript.Misfit ? .usage : .notFound, "--hook: \(String(describing: error).printable)")
        }
    }

    package var isEmpty: Bool { identity == nil && hooks.isEmpty }

    /// What will happen, for a plan made before the system is there.
    package var lines: [String] {
        var lines: [String] = []
        if let identity {
            lines.append(
                "then: a new identity for the system (\(identity)); its own plan is shown once the system is there")
        }
        if !hooks.isEmpty {
            lines.append(
                "then: the hooks \(hooks.map(\.name).joined(separator: ", ")), confined in the restored system")
        }
        return lines
    }

    /// Sentences on hooks that failed, or did not run.
    static func problems(_ results: [HookResult], of hooks: [HookScript]) -> [String] {
        var problems = results.filter { !$0.succeeded }.map { result in
            let words = result.output.split(separator: "\n").suffix(4).joined(separator: " / ")
            return "the hook \(result.name) failed (\(result.ending))\(words.isEmpty ? "" : ": \(words.printable)")"
        }
        let left = hooks.dropFirst(results.count).map(\.name)
        if !left.isEmpty { problems.append("the hooks that follow did not run: \(left.joined(separator: ", "))") }
        return problems
    }
}
