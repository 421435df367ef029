// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem

/// Determines the content of a volume and its used bytes.
package enum VolumeIdentifier {
    /// The formats with supported allocation structures. All others are copied whole.
    static let formats = Registry([
        ExtFilesystem.format, FATFilesystem.format, ExFATFilesystem.format, SwapArea.format, F2FSFilesystem.format,
        XFSFilesystem.format, BtrfsFilesystem.format, NTFSFilesystem.format, BitLockerVolume.format,
    ])

    /// The formats of containers.
    static let containers = [LVMReader.format, RAIDMember.format, LUKSHeader.format]

    /// The content of a volume and its used bytes; for a container, including the volumes inside.
    ///
    /// A map is made only without any contradiction: one of Reforge's readers knows the format, finds it valid, and
    /// libblkid, if asked, agrees.
    /// - Parameters:
    ///   - secondOpinion: libblkid's opinion on the same volume; `nil` if there is no descriptor for it.
    ///   - skipPageFiles: whether the contents of Windows' page and hibernation files count as unused. A remark then
    ///     states their size.
    ///   - trustMaps: whether allocation structures are used without a check of the blocks' owners.
    ///   - unlocker: opens LUKS volumes, so that only their used sectors count.
    /// - Throws: `BlockIOError` if the volume's structures cannot be read. Damage is no error.
    package static func survey(
        _ volume: any BlockReader, secondOpinion: SecondOpinion? = nil, skipPageFiles: Bool = false,
        trustMaps: Bool = false, unlocker: LUKSUnlocker? = nil
    ) throws(BlockIOError) -> (FilesystemInfo, AllocationMap) {
        var volumesLeft = mostInnerVolumes
        let contents = try survey(
            volume, secondOpinion: secondOpinion, depth: 0, volumesLeft: &volumesLeft, trustMaps: trustMaps, unlocker)
        guard skipPageFiles, contents.filesystem.kind == .ntfs, contents.filesystem.mapSource == .allocationStructures
        else { return contents }
        return try NTFSFilesystem.withoutPageFiles(volume, contents)
    }

    /// What the one format of that kind says about a volume; `nil` if it is no volume of it.
    package static func survey(
        _ volume: any BlockReader, as kindName: String
    ) throws(BlockIOError) -> FilesystemInfo? {
        try formats.rows.first { $0.kindNames.contains(kindName) }?.survey(volume)?.filesystem
    }

    /// Surveys a volume inside `depth` containers. `volumesLeft` bounds the recursion.
    static func survey(
        _ volume: any BlockReader, secondOpinion: SecondOpinion?, depth: Int, volumesLeft: inout Int, trustMaps: Bool,
        _ unlocker: LUKSUnlocker?
    ) throws(BlockIOError) -> VolumeContents {
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        guard depth <= deepest else { return (unknown("it lies inside too many containers"), whole) }
        var held: [Container] = []
        for format in containers {
            if let container = try format.open(volume) { held.append(container) }
        }
        var found: [(format: FilesystemFormat, contents: VolumeContents)] = []
        // Contents at the start of a container also show at the start of the container itself.
        if held.count != 1 || !held[0].startsWithInnerVolume {
            for format in formats.rows {
                if let contents = try format.survey(volume) { found.append((format, contents)) }
            }
        }
        let finding = secondOpinion?.finding(byteCount: volume.byteCount)
        let names = held.map(\.filesystem.kindName) + found.map(\.contents.filesystem.kindName)
        guard names.count <= 1 else {
            return (unknown("it looks like \(names.joined(separator: " and ")) at the same time"), whole)
        }
        if var container = held.first {
            let ours = (container.filesystem, whole)
            let judged = judge(ours, finding)
            guard judged.filesystem.kind == container.filesystem.kind else { return judged }
            var opened: OpenedLUKS?
            defer { opened?.close() }
            if let unlocker, container.filesystem.kind == .luks {
                (container, opened) = unlocker.unlock(container, volume, at: secondOpinion)
            }
            if let rival = rival(of: container, secondOpinion, byteCount: volume.byteCount) { return (rival, whole) }
            return contents(
                of: container, volume, secondOpinion, depth: depth, volumesLeft: &volumesLeft, trustMaps: trustMaps,
                unlocker)
        }
        guard let ours = found.first else {
            let named = try NamedVolume.find(on: volume)
            return (foreign(finding ?? .failed, named: named), whole)
        }
        let judged = judge(ours.contents, finding)
        guard !trustMaps, judged.filesystem.mapSource == .allocationStructures,
            let contradiction = try ours.format.prove(volume, judged)
        else { return judged }
        return (judged.filesystem.takenWhole(because: contradiction), whole)
    }

    /// Libblkid's findings besides a container: it ends its search at the first signature of RAID or encryption, which
    /// may be left over from older content of the volume (a ZFS leaves an md superblock of version 1.2 intact).
    private static func rival(
        of container: Container, _ opinion: SecondOpinion?, byteCount: UInt64
    ) -> FilesystemInfo? {
        // Contents at the start of a container also show there.
        guard let opinion, container.filesystem.wholeReason == nil, !container.startsWithInnerVolume else { return nil }
        let name = container.filesystem.kindName
        switch opinion.finding(byteCount: byteCount, besides: name) {
        case .nothing: return nil
        case .found(let other, _, _): return unknown("it looks like \(name) and, to libblkid, like \(other) too")
        case .ambivalent, .failed: return unknown("besides \(name), libblkid finds other signatures or could not look")
        }
    }

    /// Reforge's finding, or "unknown" where libblkid was asked and disagrees.
    private static func judge(_ ours: VolumeContents, _ finding: SecondOpinion.Finding?) -> VolumeContents {
        let whole = AllocationMap.whole(byteCount: ours.allocation.byteCount)
        switch finding {
        case nil: return ours
        case .failed: return (unknown("libblkid could not look at this \(ours.filesystem.kindName)"), whole)
        case .found(let kindName, _, _) where isSame(kindName, ours.filesystem): return ours
        case .found(let kindName, _, _):
            return (unknown("Reforge takes it for \(ours.filesystem.kindName), libblkid for \(kindName)"), whole)
        case .ambivalent:
            return (
                unknown("besides \(ours.filesystem.kindName), libblkid finds the signature of something else"), whole
            )
        case .nothing:
            let reason = ours.filesystem.wholeReason.map { ": \($0)" } ?? ""
            return (
                unknown("Reforge takes it for \(ours.filesystem.kindName), libblkid recognises nothing\(reason)"),
                whole
            )
        }
    }

    /// libblkid has a separate name for swap with a hibernation image.
    private static func isSame(_ kindName: String, _ info: FilesystemInfo) -> Bool {
        kindName == info.kindName || info.kind == .swap && kindName == "swsuspend" && !info.remarks.isEmpty
    }

    /// libblkid's names of filesystems that are written once, without holes.
    private static let readOnlyKinds: Set<String> = ["iso9660", "squashfs", "squashfs3", "erofs", "cramfs", "romfs"]

    /// The names of mapped filesystems and containers, for display, in the order of the tables.
    package static var mappedNames: [String] {
        let names = formats.rows.map(\.kindNames) + containers.map(\.kindNames)
        return names.flatMap { $0.sorted() }.filter { !["BitLocker", "ext4dev", "jbd", "swsuspend"].contains($0) }
    }

    /// A volume that no reader of Reforge recognises.
    /// - Parameter named: its kind, where only its signature is known.
    private static func foreign(_ finding: SecondOpinion.Finding, named: NamedVolume?) -> FilesystemInfo {
        switch finding {
        case .found(named?.kindName, let uuid, let label):
            return named?.info(uuid: uuid, label: label) ?? unknown("nothing is recognised on it")
        // libblkid learns names with each release; the installed one may be older than the disk.
        case .nothing where named != nil, .failed where named != nil:
            return named?.info() ?? unknown("nothing is recognised on it")
        case .found(let kindName, let uuid, let label):
            let ours = formats.rows.map(\.kindNames) + containers.map(\.kindNames)
            if ours.contains(where: { $0.contains(kindName) }) {
                return unknown("libblkid takes it for \(kindName), Reforge does not")
            }
            return FilesystemInfo(
                kind: .other, kindName: kindName, uuid: uuid, label: label, mapSource: .whole,
                wholeReason: readOnlyKinds.contains(kindName)
                    ? "it is a read-only filesystem, all of which is in use" : "no map is made of \(kindName)")
        case .ambivalent: return unknown("libblkid finds signatures of several things that exclude each other")
        case .nothing, .failed: return unknown("nothing is recognised on it")
        }
    }

    private static func unknown(_ reason: String) -> FilesystemInfo {
        FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason)
    }
}
