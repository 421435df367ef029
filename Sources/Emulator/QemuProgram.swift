// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// A program of QEMU.
package enum QemuProgram: String, Sendable {
    case image = "qemu-img"
    case storageDaemon = "qemu-storage-daemon"
    case system = "qemu-system-x86_64"

    /// The package of Debian 12 that holds it.
    private var debianPackage: String {
        switch self {
        case .image: "qemu-utils"
        case .storageDaemon: "qemu-system-common"
        case .system: "qemu-system-x86"
        }
    }

    /// - Throws: `EmulatorError.missing`, which names the Debian package, if it is not installed.
    package func require() throws(EmulatorError) {
        guard ChildProcess.canFind(rawValue) else {
            throw .missing(program: rawValue, package: debianPackage)
        }
    }
}

package enum EmulatorError: Error, Sendable, CustomStringConvertible {
    case missing(program: String, package: String)
    /// A program of QEMU ended with an error, or said what is wrong.
    case failed(program: String, why: String)
    case system(SystemCallError)
    case cancelled

    /// Whether another program of QEMU has a file open that this one needs (block/file-posix.c).
    package var isLocked: Bool {
        guard case .failed(_, let why) = self else { return false }
        return why.contains("Failed to get ") && why.contains(" lock")
    }

    package var description: String {
        switch self {
        case .missing(let program, let package): "\(program) is not installed (Debian: apt install \(package))"
        case .failed(let program, let why): "\(program): \(why)"
        case .system(let error): "\(error)"
        case .cancelled: "interrupted"
        }
    }
}
