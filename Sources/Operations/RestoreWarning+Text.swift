// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import Imaging

extension RestorePlan.Warning {
    /// The node of an opened LUKS volume, in commands.
    private static let node = "/dev/mapper/NAME"

    /// For a person, and for the JSON of a plan.
    package var sentence: String {
        switch self {
        case .layout(let remark): return remark.sentence
        case .leftOut(let number): return "partition \(number) is left out, as asked for"
        case .gapLeftOut(let range):
            return "\(ByteText.rounded(range.byteCount)) between partitions, from byte "
                + "\(range.lowerBound) on, are not restored: a partition lies there now"
        case .endLeftOut(let range):
            return
                "\(ByteText.rounded(range.byteCount)) behind the last partition, from byte \(range.lowerBound) on, are "
                + "not restored: the target has another length"
        case .foreignTable(let kind):
            return "the partition table (\(kind ?? "unknown")) goes back as it was; it does not use "
                + "what the target has more"
        case .startsByUEFIOnly(let size):
            return "BIOS does not start from disks with sectors of \(size) bytes: from here the system starts "
                + "by UEFI only"
        case .hybridMBRLeftOut(let size):
            return "the partitions that are named a second time in the MBR (hybrid MBR) are left out there: what goes "
                + "by it counts in sectors of \(size) bytes"
        case .remakesFATInUse(let number):
            return "\(Self.place(number)): its FAT was in use when it was captured; whether its files "
                + "can all be put into a new one shows only once they are restored"
        case .sectorsUntested(let number, let filesystem, let reason):
            return "\(Self.place(number)) (\(filesystem ?? "unknown")): \(reason)"
        case .keepsSizeInLUKS(let number, let reason):
            return "\(Self.place(number)): what is inside of LUKS keeps its size: \(reason)"
        case .groupKeepsSize(let number, let reason):
            return "\(Self.place(number)): its volume group keeps its size: \(reason)"
        case .locked(let number, let growCommand, let growsWithKey):
            let command =
                growCommand?.replacing("NODE", with: Self.node)
                ?? "resize2fs \(Self.node), pvresize \(Self.node), or whatever makes larger what is inside"
            return "\(Self.place(number)): LUKS fills its larger place when it is opened; what is inside keeps its "
                + "size. Once it is open: \(command)"
                + (growsWithKey ? " (--luks-key-file has that done by the restore)" : "")
        case .unreadable(let hole): return hole.unreadableText
        }
    }

    private static func place(_ number: Int?) -> String { number.map { "partition \($0)" } ?? "the disk" }
}

extension LayoutRemark {
    fileprivate var sentence: String {
        switch self {
        case .irregularTable(let reason): return "\(reason); it goes back as it was"
        case .unusualTable:
            return "the partition table is unusual (it leaves no room for a record, or reaches further than it can "
                + "count); it goes back as it was, and nothing grows"
        case .nothingCanGrow(let policy, let free):
            return Self.noneGrows(policy, free) + ", for no partition holds what can follow"
        case .nothingGrows(let policy, let free, let number, let content):
            return Self.noneGrows(policy, free)
                + "; --partition \(number)=rest gives them to partition \(number) (\(content))"
        case .endUnused(let byteCount, let sectorSize, let reach):
            return "\(ByteText.rounded(byteCount)) at the end of the target stay unused: an MBR with sectors "
                + "of \(sectorSize) bytes reaches \(ByteText.rounded(reach))"
        case .contentKeepsSize(let number, let content):
            return "partition \(number) gets larger, but what it holds (\(content)) keeps its size"
        case .existingIsLarger(let number, let byteCount):
            return "partition \(number) of the target is \(ByteText.rounded(byteCount)) larger than "
                + "what is restored there, and that keeps its size"
        case .typeStays(let number, let type, let captured):
            return "partition \(number) keeps its type in the target's table (\(type)); "
                + "in the image it has another (\(captured))"
        }
    }

    private static func noneGrows(_ policy: LayoutPolicy, _ freeByteCount: UInt64) -> String {
        "the layout \(policy.rawValue) makes no partition larger: \(ByteText.rounded(freeByteCount)) of the target "
            + "stay free"
    }
}

extension RestorePlan.JSON {
    /// With the warnings as sentences.
    init(_ plan: RestorePlan) { self.init(plan, warnings: plan.warnings.map(\.sentence)) }
}
