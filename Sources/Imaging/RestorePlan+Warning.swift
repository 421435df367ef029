// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

extension RestorePlan {
    /// A warning of a plan. `RestoreWarning+Text` in Operations has the sentences.
    ///
    /// `partition` is `nil` for a disk without a partition table; `reason` is half a sentence.
    package enum Warning: Equatable, Sendable {
        /// A limit of the layout.
        case layout(LayoutRemark)
        /// A partition is not restored, as requested.
        case leftOut(partition: Int)
        /// A gap between partitions is not restored, because a partition is there now; in bytes of the captured disk.
        case gapLeftOut(ByteRange)
        /// The space behind the last partition of the captured disk, for which the target has no place.
        case endLeftOut(ByteRange)
        /// A table that is not understood goes back as it was, onto a disk of another length.
        case foreignTable(kind: String?)
        /// The captured disk also started by BIOS, which the target's sector size does not allow.
        case startsByUEFIOnly(sectorSize: Int)
        /// The entries of a hybrid MBR are left out: they count in the captured disk's sectors.
        case hybridMBRLeftOut(sectorSize: Int)
        /// A FAT that was in use when it was captured is recreated.
        case remakesFATInUse(partition: Int?)
        /// It is unknown whether the contents work with the target's sector size.
        case sectorsUntested(partition: Int?, filesystem: String?, reason: String)
        /// The contents of a LUKS volume do not grow with their partition.
        case keepsSizeInLUKS(partition: Int?, reason: String)
        /// A volume group does not grow with its partition.
        case groupKeepsSize(partition: Int?, reason: String)
        /// The contents of a LUKS volume do not grow without its key.
        /// - Parameters:
        ///   - growCommand: the command that grows them later; NODE is the opened volume. `nil` if unknown.
        ///   - growsWithKey: whether the restore grows them if it has the key.
        case locked(partition: Int?, growCommand: String?, growsWithKey: Bool)
        /// The disk is not made to start by this firmware; `reason` is half a sentence.
        case firmwareStays(TableConversion.Goal, reason: String)
        /// The image has zeros in place of unreadable data.
        case unreadable(Manifest.Hole)

        /// The name in JSON. Never changed.
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
            case .firmwareStays: "firmware-stays"
            }
        }
    }
}
