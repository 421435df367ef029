// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A program of the user that runs in a restored system.
package struct HookScript: Equatable, Sendable {
    /// Why a file is no hook, as a sentence.
    package struct Misfit: Error, Equatable, Sendable, CustomStringConvertible {
        package let description: String
    }

    /// The file's name.
    package let name: String
    package let bytes: [UInt8]

    /// Upper bounds: a hook lies in memory, from before the first write to its end.
    package static let longest = 1 << 20
    package static let most = 64

    /// Checks the name and the contents.
    package init(name: String, bytes: [UInt8]) throws(Misfit) {
        guard (1...128).contains(name.utf8.count), !name.hasPrefix("."),
            name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "._-+".contains($0)) })
        else {
            throw Misfit(
                description:
                    "a hook's name has letters, digits, dots, hyphens and underscores, and does not begin with a dot")
        }
        guard bytes.count <= Self.longest else {
            throw Misfit(description: "the hook \(name) has more than \(Self.longest) bytes")
        }
        // execve(2): an interpreter script, or a binary (ELF).
        guard bytes.starts(with: Array("#!".utf8)) || bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
            throw Misfit(description: "the hook \(name) is no script: it does not begin with #!")
        }
        self.name = name
        self.bytes = bytes
    }

    /// Reads hooks, in the order of the paths.
    package static func read(_ paths: [FilePath]) throws -> [HookScript] {
        guard paths.count <= most else { throw Misfit(description: "there are more than \(most) hooks") }
        var hooks: [HookScript] = []
        for path in paths {
            let hook = try HookScript(
                name: path.lastComponent?.string ?? "", bytes: try Files.read(path, limit: longest + 1))
            guard !hooks.contains(where: { $0.name == hook.name }) else {
                throw Misfit(description: "there are two hooks with the name \(hook.name)")
            }
            hooks.append(hook)
        }
        return hooks
    }
}
