// SPDX-License-Identifier: GPL-3.0-or-later

/// The changes that a restore makes in filesystems beyond writing what was captured, and whether each is proved to have
/// left its filesystem whole. A change that nothing proved keeps the restore from its commit.
struct TargetChanges {
    /// What a check found after a change.
    enum Check {
        /// The filesystem is whole.
        case passed
        /// It is not, or nothing tells; a sentence part.
        case failed(String)
    }

    private var unproved: [String] = []

    /// Carries out a change of `name`, which `body` checks. Where `body` throws or its check fails, the change stays
    /// unproved.
    mutating func change(_ name: String, _ body: () throws -> Check) throws {
        unproved.append(name)
        switch try body() {
        case .passed: unproved.removeLast()
        case .failed(let reason):
            throw ImagingError.failed("\(name) was changed, and its check does not pass: \(reason)")
        }
    }

    /// The proof that the commit asks for.
    func proved() throws(ImagingError) -> ProvedTarget {
        guard unproved.isEmpty else {
            throw .failed("\(unproved.joined(separator: ", ")): changed, and not proved to be whole")
        }
        return ProvedTarget()
    }
}

/// Says that every filesystem that a restore changed has passed its check: only `TargetChanges.proved()` makes one.
struct ProvedTarget: ~Copyable {
    fileprivate init() {}
}
