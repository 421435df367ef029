// SPDX-License-Identifier: GPL-3.0-or-later

/// The changes that a restore makes in filesystems beyond writing captured data, each with a check that its filesystem
/// is whole. A change without a passed check prevents the commit.
struct TargetChanges {
    /// The result of the check after a change.
    enum Check {
        /// The filesystem is whole.
        case passed
        /// The filesystem is damaged, or in doubt; with the reason as a sentence part.
        case failed(String)
    }

    private var unproved: [String] = []

    /// Performs a change of `name`, which `body` checks. If `body` throws or its check fails, the change stays
    /// unproved.
    mutating func change(_ name: String, _ body: () throws -> Check) throws {
        unproved.append(name)
        switch try body() {
        case .passed: unproved.removeLast()
        case .failed(let reason):
            throw ImagingError.failed("\(name) was changed, and its check does not pass: \(reason)")
        }
    }

    /// The proof that the commit requires.
    func proved() throws(ImagingError) -> ProvedTarget {
        guard unproved.isEmpty else {
            throw .failed("\(unproved.joined(separator: ", ")): changed, and not proved to be whole")
        }
        return ProvedTarget()
    }
}

/// Proof that every filesystem that a restore changed has passed its check; only `TargetChanges.proved()` makes one.
struct ProvedTarget: ~Copyable {
    fileprivate init() {}
}
