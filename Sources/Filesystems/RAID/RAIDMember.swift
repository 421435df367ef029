// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A member of a Linux md array. A member of RAID 1 contains the whole array.
enum RAIDMember {
    static let format = ContainerFormat(kindNames: ["linux_raid_member"], open: open)

    static func open(_ volume: any BlockReader) throws(BlockIOError) -> Container? {
        let found = try RAIDSuperblock.find(volume)
        guard let first = found.first else { return nil }
        var info = FilesystemInfo(kind: .raid, kindName: "linux_raid_member", mapSource: .whole)
        let superblock: RAIDSuperblock
        do { superblock = try first.get() } catch { return .whole(info, because: error.description) }
        info.uuid = ExtFilesystem.uuidText(superblock.uuid)
        info.label = superblock.name.isEmpty ? nil : superblock.name
        info.features = ["md \(superblock.version)", levelName(superblock.level)]
        info.byteCount = superblock.data.byteCount
        guard found.count == 1 else { return .whole(info, because: "it has more than one md superblock") }
        guard superblock.level == 1 else {
            return .whole(info, because: "it holds a part of an array (\(levelName(superblock.level)))")
        }
        if let problem = superblock.problem { return .whole(info, because: problem) }
        let data = superblock.data
        guard !data.isEmpty, (0..<volume.byteCount).covers(data) else {
            return .whole(info, because: "its array is larger than its md member")
        }
        guard !data.overlaps(superblock.place), !superblock.others.contains(where: data.contains) else {
            return .whole(info, because: "its array overlaps its md metadata")
        }
        if superblock.memberCount > 1 {
            info.remarks.append(
                "is one of \(superblock.memberCount) members of an array: another one may hold newer contents")
        }
        let inner = InnerPlace(
            name: superblock.name.isEmpty ? "array" : superblock.name, byteCount: data.byteCount,
            contents: .segments([VolumeSegment(start: 0, place: data)]))
        return Container(
            filesystem: info, alwaysUsed: [0..<data.lowerBound, data.upperBound..<volume.byteCount], inner: [inner])
    }

    /// Levels of md(4).
    private static func levelName(_ level: Int32) -> String {
        switch level {
        case -1: "linear"
        case -4: "multipath"
        case 0...10: "raid\(level)"
        default: "level \(level)"
        }
    }
}
