// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

extension RestorePlan {
    /// Something that a person should know of a plan. Its words are made where it is shown.
    ///
    /// A partition that is `nil` stands for the bare disk; a reason is half a sentence.
    package enum Warning: Equatable, Sendable {
        /// What the layout cannot do, or leaves.
        case layout(LayoutRemark)
        /// A partition is not restored, as was asked for.
        case leftOut(partition: Int)
        /// What lay between partitions is not restored, as one lies there now; in bytes of the captured disk.
        case gapLeftOut(ByteRange)
        /// The space behind the last partition of the captured disk, for which the target has no place.
        case endLeftOut(ByteRange)
        /// A table that is not understood goes back as it was, onto a disk of another length.
        case foreignTable(kind: String?)
        /// The captured disk started by BIOS too, which the target's sectors do not allow.
        case startsByUEFIOnly(sectorSize: Int)
        /// The entries of a hybrid MBR are left out: they count in the captured disk's sectors.
        case hybridMBRLeftOut(sectorSize: Int)
        /// A FAT that was in use when it was captured is made anew.
        case remakesFATInUse(partition: Int?)
        /// Nobody knows whether a content works with sectors of the target's size.
        case sectorsUntested(partition: Int?, filesystem: String?, reason: String)
        /// What is inside of LUKS does not follow its larger place.
        case keepsSizeInLUKS(partition: Int?, reason: String)
        /// A volume group does not follow its larger place.
        case groupKeepsSize(partition: Int?, reason: String)
        /// What is inside of LUKS does not follow without a key.
        /// - Parameters:
        ///   - growCommand: what makes it larger later; NODE stands for the opened volume. `nil` where that is not known.
        ///   - growsWithKey: whether the restore does it where it has the key.
        case locked(partition: Int?, growCommand: String?, growsWithKey: Bool)
        /// The image has zeros in place of what could not be read.
        case unreadable(Manifest.Hole)

        /// Its name for programs: stays as it is.
        package var code: String {
            switch self {
            case .layout(let remark): remark.code
            case .leftOut: "left-out"
            case .gapLeftOut: "gap-left-out"
            case .endLeftOut: "end-left-out"
            case .foreignTable: "foreign-table"
            case .startsByUEFIOnly: "starts-by-uefi-only"
            case .hybridMBRLeftOut: "hybrid-mbr-left-out"
            case .remakesFATInUse: "remakes-fat-in-use"
            case .sectorsUntested: "sectors-untested"
            case .keepsSizeInLUKS: "keeps-size-in-luks"
            case .groupKeepsSize: "group-keeps-size"
            case .locked: "locked"
            case .unreadable: "unreadable"
            }
        }
    }
}
