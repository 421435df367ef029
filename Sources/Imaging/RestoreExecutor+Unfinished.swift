// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel

extension RestoreExecutor {
    /// An interrupted restore that a target's journal records.
    package struct Unfinished: Sendable, CustomStringConvertible {
        /// Whether it has the same image and plan, so that this restore resumes it.
        package var isSame: Bool
        /// Its image and position.
        package var restore: InterruptedRestore

        /// The sentence for a person.
        package var description: String {
            isSame
                ? "The target holds an interrupted restore of this image, \(restore.progress): it resumes, and data that is there "
                    + "already is read and compared"
                : "The target holds an interrupted restore of another image or plan (image \(restore.imageUUID), "
                    + "\(restore.progress)): that one is given up, and this one starts from the beginning"
        }
    }

    /// The interrupted restore in a target's journal; `nil` without a journal.
    package static func unfinished(on target: any BlockReader, _ plan: RestorePlan) throws -> Unfinished? {
        guard let found = RestoreJournal.read(target) else { return nil }
        let isSame = try found.imageUUID == plan.imageUUID && found.planDigest == plan.digest()
        return Unfinished(isSame: isSame, restore: InterruptedRestore(found))
    }
}
