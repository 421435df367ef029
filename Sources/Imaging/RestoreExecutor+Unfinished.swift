// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

extension RestoreExecutor {
    /// An interrupted restore that a target's journal tells of.
    package struct Unfinished: Sendable, CustomStringConvertible {
        /// Whether it is the same plan, so that this restore goes on where that one was.
        package var isSame: Bool
        /// What it was of, and how far.
        package var restore: InterruptedRestore

        /// For a person.
        package var description: String {
            isSame
                ? "The target holds an interrupted restore of this image, \(restore.progress): it goes on, and what is there "
                    + "already is read and compared, not believed"
                : "The target holds an interrupted restore of another image or plan (image \(restore.imageUUID), "
                    + "\(restore.progress)): that one is given up, and this one starts at the front"
        }
    }

    /// What a target's journal tells; `nil` where it has none.
    package static func unfinished(on target: any BlockReader, _ plan: RestorePlan) throws -> Unfinished? {
        guard let found = RestoreJournal.read(target) else { return nil }
        let isSame = try found.imageUUID == plan.imageUUID && found.planDigest == plan.digest()
        return Unfinished(isSame: isSame, restore: InterruptedRestore(found))
    }
}
