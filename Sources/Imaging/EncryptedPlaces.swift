// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FilesystemResize
import Filesystems
import LinuxSystem
import SystemPackage

/// Makes what is inside of a LUKS volume fill it, once the volume has got a larger place. LUKS itself fills its place
/// whenever it is opened.
struct EncryptedGrowth {
    let growth: RestorePlan.Growth
    /// The length of the place that it comes from, in bytes.
    let capturedByteCount: UInt64
    let keyFiles: [FilePath]
    let log: (String) -> Void

    /// Opens it on the target, grows what is inside, and closes it.
    /// - Returns: what a person should know.
    /// - Throws: `ImagingError` or `ResizeError` where that failed.
    func run(on target: FilePath, sectorSize: Int) throws -> [String] {
        let opened = try open(target, sectorSize)
        defer { opened.close() }
        let (inner, _) = try VolumeIdentifier.survey(
            opened, secondOpinion: SecondOpinion(descriptor: opened.fileDescriptor.rawValue))
        let name = "what is inside of it (\(inner.kindName))"
        func left(_ remark: String) throws -> [String] {
            guard opened.close() else { throw Self.stillOpen(opened) }
            return ["\(name) keeps its size\(remark)"]
        }
        guard inner.kind != .lvm else {
            return try left("; once it is open: \(Self.command(toGrow: inner))")
        }
        if let obstacle = inner.resizeAbility.growObstacle { return try left(": \(obstacle)") }
        guard inner.growsOnSectors(of: opened.logicalSectorSize) else {
            return try left(": it was made for sectors of another size")
        }
        // What stands behind the end of a filesystem must stay there.
        let (captured, overflow) = capturedByteCount.subtractingReportingOverflow(opened.geometry.dataStart)
        guard !overflow, LayoutPlanner.fills(inner, 0..<captured) else {
            return try left(": something may stand behind the end of it")
        }
        let grown = try FilesystemResizer.grow(inner, on: .device(opened.path), log: log)
        log("\(name) has grown to \(ByteText.rounded(grown.byteCount))")
        guard opened.close() else { throw Self.stillOpen(opened) }
        return grown.remarks
    }

    private static func stillOpen(_ opened: OpenedLUKS) -> ImagingError {
        .failed(
            "the opened LUKS volume (\(opened.path)) could not be closed again: something on this machine uses it (`lsblk` shows what)"
        )
    }

    private func open(_ target: FilePath, _ sectorSize: Int) throws -> OpenedLUKS {
        for keyFile in keyFiles {
            do throws(LUKSOpenError) {
                return try OpenedLUKS(
                    disk: target, range: growth.range, sectorSize: sectorSize, keyFile: keyFile, readOnly: false)
            } catch {
                guard error == .wrongKey else { throw ImagingError.failed("it could not be opened: \(error)") }
            }
        }
        throw ImagingError.failed("none of the given keys opens it")
    }

    /// The command that makes what is inside fill the opened volume.
    static func command(toGrow inner: FilesystemInfo?) -> String {
        let node = "/dev/mapper/NAME"
        return switch inner?.kind {
        case .ext2, .ext3, .ext4: "resize2fs \(node)"
        case .xfs: "xfs_growfs MOUNTPOINT"
        case .btrfs: "btrfs filesystem resize max MOUNTPOINT"
        case .ntfs: "ntfsresize \(node)"
        case .f2fs: "resize.f2fs \(node)"
        case .lvm: "pvresize \(node), then lvextend --resizefs --extents +100%FREE GROUP/VOLUME"
        default: "resize2fs \(node), pvresize \(node), or whatever makes larger what is inside"
        }
    }
}

extension RestorePlan {
    /// The LUKS volumes that get a larger place, whose insides only a key makes larger.
    public var encryptedGrowths: [Growth] { growths.filter { $0.filesystem.kind == .luks } }

    /// What a person who gives no key is to do later, for each of them.
    public var encryptedGrowthNotes: [String] {
        encryptedGrowths.compactMap { growth in
            let inner = growth.filesystem.inner?.first?.filesystem
            // What never grows needs no command.
            if let inner, inner.kind != .lvm, inner.resizeAbility.growObstacle != nil, inner.kind != .unknown {
                return nil
            }
            let place = growth.number.map { "partition \($0)" } ?? "the disk"
            return "\(place): LUKS fills its larger place when it is opened; what is inside keeps its size. Once it is "
                + "open: \(EncryptedGrowth.command(toGrow: inner))"
                + (inner?.kind == .lvm ? "" : " (--luks-key-file has that done by the restore)")
        }
    }
}

extension RestorePlanner {
    /// The lengths of encrypted sectors of LUKS2 that are more than a sector of any disk may be.
    private static func encryptedSectorByteCount(_ filesystem: FilesystemInfo?) -> UInt64? {
        guard let filesystem, filesystem.kind == .luks, let size = filesystem.sectorSize,
            [1024, 2048, 4096].contains(size)
        else { return nil }
        return UInt64(size)
    }

    /// Why a LUKS volume could not be opened in a place of that length, as a sentence part: dm-crypt takes whole sectors
    /// of its own only.
    static func obstacle(_ filesystem: FilesystemInfo?, in byteCount: UInt64) -> String? {
        guard let unit = encryptedSectorByteCount(filesystem), byteCount % unit != 0 else { return nil }
        return "LUKS with sectors of \(unit) bytes opens only where its place is a multiple of that long"
    }

    /// The same layout with partitions that grew ending where their LUKS has whole sectors.
    static func endingInEncryptedSectors(_ layout: DiskLayout, _ filesystems: [Int: FilesystemInfo]) -> DiskLayout {
        var layout = layout
        for index in layout.placements.indices where layout.placements[index].isGrown {
            let placement = layout.placements[index]
            guard let unit = encryptedSectorByteCount(filesystems[placement.number]) else { continue }
            let length = placement.to.byteCount / unit * unit
            guard length >= placement.from.byteCount else { continue }
            layout.placements[index].to = placement.to.lowerBound..<placement.to.lowerBound + length
        }
        return layout
    }
}
