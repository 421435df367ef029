// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Why a resize failed, and the state of the filesystem.
package struct ResizeError: Error, Sendable, CustomStringConvertible {
    /// The cause of a failure.
    package enum Problem: Sendable {
        /// Impossible with any tool; the reason is a sentence.
        case unsupported(reason: String)
        /// The requested size is below the least that its tool accepts.
        case tooSmall(requested: UInt64, leastByteCount: UInt64)
        /// A program is missing; `package` is the Debian package that contains it.
        case toolMissing(tool: String, package: String)
        /// The check before the resize found damage that it does not repair automatically.
        case checkFailed(tool: String, ending: String, lastWords: String)
        /// The resize tool failed.
        case resizeFailed(tool: String, ending: String, lastWords: String)
        /// Its tool needs it mounted, and mounting or unmounting failed.
        case mountFailed(SystemCallError)
        /// A device could not be opened or used.
        case unreachable(SystemCallError)
        /// A disk I/O error.
        case inputOutput(BlockIOError)
    }

    /// The state of the filesystem after a failure.
    package enum State: Equatable, Sendable {
        /// It has its old length: nothing was resized.
        case asBefore
        /// Its check found no damage, and it has this length in bytes.
        case whole(byteCount: UInt64)
        /// Its tool had begun to write, and the result is not known to be whole. `check` is the command that checks it.
        case inDoubt(check: String)
    }

    package var problem: Problem
    package var state: State

    package init(_ problem: Problem, state: State = .asBefore) {
        self.problem = problem
        self.state = state
    }

    /// The failure and the state of the filesystem, for messages.
    package var description: String {
        let after =
            switch state {
            case .asBefore: "Nothing was resized: the filesystem keeps its old size"
            case .whole(let byteCount): "The filesystem was checked: it is whole and has \(ByteText.exact(byteCount))"
            case .inDoubt(let check):
                "It had begun to write: the filesystem may be damaged. Restore it again, or run `\(check)` before it is "
                    + "used"
            }
        // A tool's last output may end with its own full stop.
        let before = "\(problem)"
        return before.hasSuffix(".") ? "\(before) \(after)" : "\(before). \(after)"
    }
}

extension ResizeError.Problem: CustomStringConvertible {
    /// The failure, as a sentence without its full stop.
    package var description: String {
        switch self {
        case .unsupported(let reason): reason
        case .tooSmall(let requested, let least):
            "\(requested) bytes (\(ByteText.rounded(requested))) are too few for it: the least is \(least) bytes "
                + "(\(ByteText.rounded(least)))"
        case .toolMissing(let tool, let package): "`\(tool)` is not installed (Debian package \(package))"
        case .checkFailed(let tool, let ending, let lastWords):
            "`\(tool)` found damage that it does not repair automatically (\(ending)): \(lastWords)"
        case .resizeFailed(let tool, let ending, let lastWords): "`\(tool)` did not succeed (\(ending)): \(lastWords)"
        case .mountFailed(let error): "\(error)"
        case .unreachable(let error): "\(error)"
        case .inputOutput(let error): "\(error)"
        }
    }
}
