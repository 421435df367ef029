// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import FilesystemResize
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

/// The result of a restore, or of its dry run.
package struct RestoreReport: Encodable {
    /// The result of boot repair.
    package struct Repair: Encodable {
        /// Before its steps.
        package var findings: [Finding]
        package var changed: [String]
        package var pending: String?
    }
    package let schema = 1
    package var dryRun: Bool
    package var image: String
    package var imageID: String?
    package var plan: RestorePlan.JSON
    package var diskState: RestoreExecutor.DiskState
    package var writtenByteCount: UInt64 = 0
    package var resumedFrom: UInt64?
    package var bootRepair: Repair?
    package var warnings: [String]
    package var incomplete: [String] = []
    package var damage: [String] = []
    package var lost: [LostRange] = []
    package var lostFiles: [LostFiles] = []
    /// The disk that was cloned; `nil` for an image.
    package var source: DiskIdentity?
    /// What to do before the disks are used, as a sentence.
    package var advice: String?
    package var seconds: Double = 0

    /// The plan for a person.
    package var planText: PlanText?
    /// The interrupted restore that the target holds, as a sentence.
    package var unfinished: String?
    /// How losses are confirmed without a terminal, as a sentence.
    package var confirmation: String?

    private enum CodingKeys: String, CodingKey {
        case schema, dryRun, image, imageID, plan, diskState, writtenByteCount, resumedFrom, bootRepair, warnings
        case incomplete, damage, lost, lostFiles, source, advice, seconds
    }
}
