// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import JobModel

/// What a person must know before the disk of an image is started in a virtual machine.
enum ExportRemarks {
    /// A remark, with its code for programs.
    struct Remark: Equatable {
        var code: String
        var text: String
    }

    /// Refuses an image without all partitions: a machine would start from half a disk.
    static func refuse(_ manifest: Manifest, _ name: String) throws(JobFailure) {
        let missing = manifest.regions.filter { $0.kind != .gap && $0.isSkipped }.map { region in
            region.partition.map { "partition \($0)" } ?? "the contents"
        }
        guard !missing.isEmpty else { return }
        throw JobFailure(
            .refused,
            "\(name) does not have the whole disk: \(missing.joined(separator: ", ")) of it \(missing.count == 1 ? "is" : "are") "
                + "not there. Leave them out with --partition N=drop")
    }

    /// - Parameters:
    ///   - name: the image.
    ///   - isRestored: whether the disk is laid out again.
    static func about(_ manifest: Manifest, _ name: String, isRestored: Bool) -> [Remark] {
        var remarks: [Remark] = []
        func add(_ code: String, _ text: String) { remarks.append(Remark(code: code, text: text)) }
        switch manifest.table.kind {
        case .none:
            let contents = manifest.regions.first { $0.kind == .disk }?.filesystem?.kindName ?? "unknown contents"
            add(
                "no-partition-table",
                "\(name) is no disk with a partition table, but one with \(contents) alone: no firmware starts it. Attach it "
                    + "to a virtual machine as a further disk")
        case .unknown:
            add(
                "unknown-partition-table",
                "the partition table of \(name) is not understood (\(manifest.table.unknownKindName ?? "unknown")): it may be "
                    + "only a part of a disk, and is copied as it is")
        case .gpt, .mbr:
            if manifest.table.condition != .intact, !isRestored {
                add(
                    "damaged-partition-table",
                    "one of the two copies of the partition table of \(name) is damaged or not in its place; it is copied as "
                        + "it is (`--layout keep` writes both)")
            }
        }
        let gaps = manifest.regions.filter { $0.kind == .gap && $0.isSkipped }
        if !gaps.isEmpty, !isRestored {
            let byteCount = gaps.reduce(0) { $0 + $1.range.byteCount }
            add(
                "gaps-left-out",
                "\(ByteText.rounded(byteCount)) outside of partitions were not captured, and are zeros in the disk image"
            )
        }
        if manifest.geometry.logicalSectorSize != 512, !isRestored {
            add(
                "sector-size",
                "the disk has sectors of \(manifest.geometry.logicalSectorSize) bytes, which its partition table counts in: a "
                    + "virtual machine must be given that size, or export with `--layout keep`, which changes it to 512"
            )
        }
        if manifest.captureSet.count > 1 {
            add(
                "one-of-several",
                "this is disk \(manifest.captureSet.index) of \(manifest.captureSet.count) of that machine: it may need the others "
                    + "to start")
        }
        if !manifest.mountedReadWrite.isEmpty {
            add(
                "captured-mounted",
                "it was captured while mounted (\(manifest.mountedReadWrite.joined(separator: ", "))): check its filesystems"
            )
        }
        return remarks
    }
}
