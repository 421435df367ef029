// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension RestoreExecutor {
    /// The options of a restore beside its plan.
    package struct Options: Sendable {
        /// Whether everything is read back before filesystems are resized.
        package var verify: Bool
        /// Whether the target is trimmed first.
        package var discard: Bool
        /// Whether the target is read first, and only the chunks that differ are written.
        package var delta: Bool
        /// Files with keys of LUKS volumes, whose contents are resized with them.
        package var luksKeyFiles: [FilePath]
        /// The job whose end is recorded on the target; `nil` for none.
        package var jobID: String?

        /// All options off.
        package init(
            verify: Bool = false, discard: Bool = false, delta: Bool = false, luksKeyFiles: [FilePath] = [],
            jobID: String? = nil
        ) {
            self.jobID = jobID
            self.luksKeyFiles = luksKeyFiles
            self.verify = verify
            self.discard = discard
            self.delta = delta
        }
    }
}
