// SPDX-License-Identifier: GPL-3.0-or-later
public import DiskModel

/// Finds out what a volume holds and which of its bytes are in use.
public enum VolumeIdentifier {
    /// The formats whose allocation structures are read. Everything else is copied whole.
    static let formats = [ExtFilesystem.format, FATFilesystem.format, ExFATFilesystem.format, SwapArea.format]

    /// What a volume holds, and which of its bytes are in use.
    ///
    /// A map is made only where nothing speaks against it: one of our readers knows the format, finds it sound, and
    /// libblkid, where it was asked, says the same.
    /// - Parameter secondOpinion: libblkid's view of the same volume; `nil` where there is no descriptor for it.
    /// - Throws: `BlockIOError` where the volume's structures cannot be read. Damage is no error.
    public static func survey(
        _ volume: any BlockReader, secondOpinion: SecondOpinion? = nil
    ) throws(BlockIOError) -> (FilesystemInfo, AllocationMap) {
        var found: [VolumeContents] = []
        for format in formats {
            if let contents = try format.survey(volume) { found.append(contents) }
        }
        let finding = secondOpinion?.finding(byteCount: volume.byteCount) ?? .failed
        let whole = AllocationMap.whole(byteCount: volume.byteCount)
        guard let ours = found.first else { return (foreign(finding), whole) }
        guard found.count == 1 else {
            let names = found.map(\.filesystem.kindName).joined(separator: " and ")
            return (unknown("it looks like \(names) at the same time"), whole)
        }
        switch finding {
        case .failed: return ours
        case .found(let kindName, _, _) where isSame(kindName, ours.filesystem): return ours
        case .found(let kindName, _, _):
            return (unknown("we take it for \(ours.filesystem.kindName), libblkid for \(kindName)"), whole)
        case .ambivalent:
            return (
                unknown("besides \(ours.filesystem.kindName), libblkid finds the signature of something else"), whole
            )
        case .nothing:
            let reason = ours.filesystem.wholeReason.map { ": \($0)" } ?? ""
            return (
                unknown("we take it for \(ours.filesystem.kindName), libblkid for nothing that it knows\(reason)"),
                whole
            )
        }
    }

    /// libblkid has a name of its own for swap that holds a hibernation image.
    private static func isSame(_ kindName: String, _ info: FilesystemInfo) -> Bool {
        kindName == info.kindName || info.kind == .swap && kindName == "swsuspend" && !info.remarks.isEmpty
    }

    /// A volume that none of our readers knows.
    private static func foreign(_ finding: SecondOpinion.Finding) -> FilesystemInfo {
        switch finding {
        case .found(let kindName, let uuid, let label):
            if formats.contains(where: { $0.kindNames.contains(kindName) }) {
                return unknown("libblkid takes it for \(kindName), we do not")
            }
            return FilesystemInfo(
                kind: .other, kindName: kindName, uuid: uuid, label: label, mapSource: .whole,
                wholeReason: "no map is made of \(kindName)")
        case .ambivalent: return unknown("libblkid finds signatures of several things that exclude each other")
        case .nothing, .failed: return unknown("nothing is recognised on it")
        }
    }

    private static func unknown(_ reason: String) -> FilesystemInfo {
        FilesystemInfo(kind: .unknown, kindName: "unknown", mapSource: .whole, wholeReason: reason)
    }
}
