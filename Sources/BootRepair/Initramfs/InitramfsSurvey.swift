// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles

/// The contents of a kernel's initramfs, and what it lacks for the machine that the disk is judged for.
package struct InitramfsSurvey: Codable, Equatable, Sendable {
    package enum Problem: Codable, Equatable, Sendable {
        /// The kernel cannot unpack it either; the reason, as a sentence part.
        case damaged(String)
        /// Only Reforge could not read it; the reason, as a sentence part.
        case unread(String)

        package var reason: String {
            switch self {
            case .damaged(let reason), .unread(let reason): reason
            }
        }
    }

    package var generator: InitramfsGenerator
    /// Whether it holds only the drivers of the machine that it was made on; `nil` if nothing shows it.
    package var isHostOnly: Bool?
    /// The kernel versions that it holds modules for.
    package var versions: [String]
    /// The needs of the start that it does not meet and the kernel's modules could; empty if the machine is unknown.
    package var unmet: [ModuleNeed]
    /// The missing modules, with those that they depend on.
    package var missing: [String]
    /// References to what is not on the disk.
    package var lostReferences: [InitramfsReference]
    /// References that hold, and that a new initramfs must have.
    package var references: [InitramfsReference] = []
    /// The words of dracut's own kernel command line that still hold.
    package var commandLine: [String]
    /// Why the above is incomplete.
    package var problem: Problem?

    package init(
        generator: InitramfsGenerator = .unknown, isHostOnly: Bool? = nil, versions: [String] = [],
        unmet: [ModuleNeed] = [], missing: [String] = [], lostReferences: [InitramfsReference] = [],
        commandLine: [String] = [], problem: Problem? = nil
    ) {
        self.generator = generator
        self.isHostOnly = isHostOnly
        self.versions = versions
        self.unmet = unmet
        self.missing = missing
        self.lostReferences = lostReferences
        self.commandLine = commandLine
        self.problem = problem
    }
}
