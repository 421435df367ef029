// SPDX-License-Identifier: GPL-3.0-or-later
public import DiskModel
public import LinuxSystem

/// Why a filesystem could not be resized. In every case it is still whole, with the size that it had.
public enum ResizeError: Error, Sendable, CustomStringConvertible {
    /// There is no tool of ours for this kind of filesystem.
    case unsupported(kindName: String)
    /// A program is not there; `package` is the Debian package that has it.
    case toolMissing(tool: String, package: String)
    /// The check before resizing found damage that it would not repair by itself.
    case checkFailed(tool: String, ending: String, lastWords: String)
    /// The tool that resizes gave up.
    case resizeFailed(tool: String, ending: String, lastWords: String)
    /// A device could not be reached.
    case unreachable(SystemCallError)
    /// The disk failed.
    case inputOutput(BlockIOError)

    /// What happened and what state the filesystem is in, for a person.
    public var description: String {
        switch self {
        case .unsupported(let kindName):
            "a filesystem of type \(kindName) cannot be grown here: it keeps its old size"
        case .toolMissing(let tool, let package):
            "`\(tool)` is not installed (Debian package \(package)): the filesystem keeps its old size"
        case .checkFailed(let tool, let ending, let lastWords):
            "`\(tool)` found damage that needs a person (\(ending)): \(lastWords). The filesystem keeps its old size; "
                + "run `\(tool)` on it by hand"
        case .resizeFailed(let tool, let ending, let lastWords):
            "`\(tool)` did not succeed (\(ending)): \(lastWords). The filesystem keeps its old size"
        case .unreachable(let error): "\(error): the filesystem keeps its old size"
        case .inputOutput(let error): "\(error): the filesystem keeps its old size"
        }
    }
}
