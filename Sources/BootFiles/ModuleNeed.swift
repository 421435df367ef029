// SPDX-License-Identifier: GPL-3.0-or-later

/// What a start needs of a kernel: one of several modules.
package struct ModuleNeed: Codable, Hashable, Sendable {
    /// The modules, one of which suffices, best first; names as in `ModuleName`. Empty: this kernel has none.
    package var modules: [String]
    /// What needs them, as the object of a sentence: "the root filesystem (ext4)".
    package var reason: String

    package init(_ modules: [String], for reason: String) {
        self.modules = modules
        self.reason = reason
    }
}
