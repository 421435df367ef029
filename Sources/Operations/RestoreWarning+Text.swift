// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import Imaging

extension RestorePlan.Warning {
    /// The node of an opened LUKS volume in suggested commands.
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
                + "not restored: the table or the length of the disk changes"
        case .foreignTable(let kind):
            return "the partition table (\(kind ?? "unknown")) is restored unchanged; it does not use "
                + "additional space of the target"
        case .startsByUEFIOnly(let size):
            return "BIOS does not start from disks with sectors of \(size) bytes: from the target, the system starts "
                + "by UEFI only"
        case .hybridMBRLeftOut(let size):
            return "the partitions of the hybrid MBR are left out of the MBR: programs that use it count in sectors of "
                + "\(size) bytes"
        case .remakesFATInUse(let number):
            return "\(Self.place(number)): its FAT was in use when it was captured; only the restore shows whether "
                + "all its files can be copied into a new one"
        case .sectorsUntested(let number, let filesystem, let reason):
            return "\(Self.place(number)) (\(filesystem ?? "unknown")): \(reason)"
        case .keepsSizeInLUKS(let number, let reason):
            return "\(Self.place(number)): the contents of its LUKS volume keep their size: \(reason)"
        case .groupKeepsSize(let number, let reason):
            return "\(Self.place(number)): its volume group keeps its size: \(reason)"
        case .locked(let number, let growCommand, let growsWithKey):
            let command =
                growCommand?.replacing("NODE", with: Self.node)
                ?? "resize2fs \(Self.node), pvresize \(Self.node), or the command that grows its contents"
            return "\(Self.place(number)): its LUKS volume grows when it is opened, but the contents keep their size. "
                + "After opening it, run: \(command)"
                + (growsWithKey ? " (with --luks-key-file, the restore does this)" : "")
        case .firmwareStays(let goal, let reason):
            return "the disk is not made to start by \(goal.name): \(reason). Its partition table stays"
        case .unreadable(let hole): return hole.unreadableText
        }
    }

    private static func place(_ number: Int?) -> String { number.map { "partition \($0)" } ?? "the disk" }
}

extension LayoutRemark {
    fileprivate var sentence: String {
        switch self {
        case .irregularTable(let reason): return "\(reason); the partition table is restored unchanged"
        case .unusualTable:
            return "the partition table is unusual (it leaves no space for a record, or exceeds what its fields can "
                + "address); it is restored unchanged, and nothing grows"
        case .nothingCanGrow(let policy, let free):
            return Self.noneGrows(policy, free) + ", because no partition has contents that can grow"
        case .nothingGrows(let policy, let free, let number, let content):
            return Self.noneGrows(policy, free)
                + "; --partition \(number)=rest gives them to partition \(number) (\(content))"
        case .endUnused(let byteCount, let sectorSize, let reach):
            return "\(ByteText.rounded(byteCount)) at the end of the target stay unused: an MBR with sectors "
                + "of \(sectorSize) bytes reaches \(ByteText.rounded(reach))"
        case .contentKeepsSize(let number, let content):
            return "partition \(number) grows, but its contents (\(content)) keep their size"
        case .existingIsLarger(let number, let byteCount):
            return "partition \(number) of the target is \(ByteText.rounded(byteCount)) larger than "
                + "the contents restored into it, which keep their size"
        case .typeStays(let number, let type, let captured):
            return "partition \(number) keeps its type in the target's table (\(type)); "
                + "in the image it has another type (\(captured))"
        }
    }

    private static func noneGrows(_ policy: LayoutPolicy, _ freeByteCount: UInt64) -> String {
        "the layout \(policy.rawValue) grows no partition: \(ByteText.rounded(freeByteCount)) of the target "
            + "stay free"
    }
}

extension RestorePlan.JSON {
    /// With the warnings as sentences.
    init(_ plan: RestorePlan) { self.init(plan, warnings: plan.warnings.map(\.sentence)) }
}
