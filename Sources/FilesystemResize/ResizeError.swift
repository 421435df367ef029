// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Why a filesystem could not be resized, and what state it is in.
package struct ResizeError: Error, Sendable, CustomStringConvertible {
    /// What went wrong.
    package enum Problem: Sendable {
        /// It cannot be resized that way, whatever the tools; the reason is a sentence.
        case unsupported(reason: String)
        /// Less than the filesystem needs was wished for; its tool names the least that it would do.
        case tooSmall(wished: UInt64, leastByteCount: UInt64)
        /// A program is not there; `package` is the Debian package that has it.
        case toolMissing(tool: String, package: String)
        /// The check before resizing found damage that it would not repair by itself.
        case checkFailed(tool: String, ending: String, lastWords: String)
        /// The tool that resizes gave up.
        case resizeFailed(tool: String, ending: String, lastWords: String)
        /// It could not be mounted or unmounted, as its tool needs it.
        case mountFailed(SystemCallError)
        /// A device could not be reached.
        case unreachable(SystemCallError)
        /// The disk failed.
        case inputOutput(BlockIOError)
    }

    /// What became of the filesystem.
    package enum State: Equatable, Sendable {
        /// It has the length that it had: nothing was resized.
        case asBefore
        /// Its check finds no damage, and it has this length in bytes.
        case whole(byteCount: UInt64)
        /// Its tool had begun to write, and what it left is not known to be whole. `check` is the command that tells.
        case inDoubt(check: String)
    }

    /// What went wrong.
    package var problem: Problem
    /// What became of the filesystem.
    package var state: State

    /// Names a failure.
    package init(_ problem: Problem, state: State = .asBefore) {
        self.problem = problem
        self.state = state
    }

    /// What happened and what state the filesystem is in, for a person.
    package var description: String {
        let after =
            switch state {
            case .asBefore: "Nothing was resized: the filesystem keeps its old size"
            case .whole(let byteCount): "The filesystem was checked: it is whole and has \(ByteText.exact(byteCount))"
            case .inDoubt(let check):
                "It had begun to write: the filesystem may be damaged. Restore it again, or run `\(check)` before it is "
                    + "used"
            }
        // A tool's last words may end their own sentence.
        let before = "\(problem)"
        return before.hasSuffix(".") ? "\(before) \(after)" : "\(before). \(after)"
    }
}

extension ResizeError.Problem: CustomStringConvertible {
    /// What happened, as a sentence without its full stop.
    package var description: String {
        switch self {
        case .unsupported(let reason): reason
        case .tooSmall(let wished, let least):
            "\(wished) bytes (\(ByteText.rounded(wished))) are too few for it: the least is \(least) bytes "
                + "(\(ByteText.rounded(least)))"
        case .toolMissing(let tool, let package): "`\(tool)` is not installed (Debian package \(package))"
        case .checkFailed(let tool, let ending, let lastWords):
            "`\(tool)` found damage that needs a person (\(ending)): \(lastWords)"
        case .resizeFailed(let tool, let ending, let lastWords): "`\(tool)` did not succeed (\(ending)): \(lastWords)"
        case .mountFailed(let error): "\(error)"
        case .unreachable(let error): "\(error)"
        case .inputOutput(let error): "\(error)"
        }
    }
}
