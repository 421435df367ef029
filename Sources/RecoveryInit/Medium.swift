// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The medium that started this environment, if found: a stick, an optical disc, or nothing (network boot).
struct Medium {
    /// The kernel's names of its disks.
    var disks: [String] = []
    /// All its volumes with this build's id.
    var carriers: [BlockVolume] = []
    /// The REFORGE volume: settings, logs, images.
    var volume: BlockVolume?
    /// The reason the medium's settings and logs are not used, if noteworthy.
    var problem: String?

    /// The labels of a medium's volumes: the REFORGE volume or ISO, and the stick's ESP.
    static let volumeLabel = "REFORGE"
    static let bootLabel = "REFORGEBOOT"
    static let buildIDFile = "reforge-build-id"
    static let settingsFile = "reforge.json"

    /// The id of this build: one line of hexadecimal digits; `nil` if the medium was not built properly.
    static func ownBuildID() -> String? { Files.text(RecoveryPaths.buildID).flatMap(checkedBuildID) }

    /// A validated build id from a file.
    static func checkedBuildID(_ text: String) -> String? {
        let id = text.strippedSpaces.lowercased()
        return (8...128).contains(id.utf8.count) && id.allSatisfy { $0.isASCII && $0.isHexDigit } ? id : nil
    }

    /// Determines the medium among the volumes with this build's id. Settings come from exactly one volume: a second
    /// medium of the same build could be a captured and restored copy, which is indistinguishable.
    static func decide(carriers: [BlockVolume]) -> Medium {
        var medium = Medium()
        medium.carriers = carriers
        for carrier in carriers where !medium.disks.contains(carrier.disk) { medium.disks.append(carrier.disk) }
        let candidates = carriers.filter { $0.label == volumeLabel }
        if candidates.count == 1 || BlockVolume.areOneDisc(candidates) {
            medium.volume = candidates.first
        } else if candidates.count > 1 {
            medium.problem =
                "\(candidates.count) volumes carry this build's id (\(candidates.map(\.path).joined(separator: ", "))): their settings are not used. Remove all but one."
        }
        return medium
    }

    /// Finds the medium among `volumes`.
    static func find(in volumes: [BlockVolume]) -> Medium {
        guard let own = ownBuildID() else { return Medium() }
        let carriers = volumes.filter { volume in
            guard [volumeLabel, bootLabel].contains(volume.label), ["exfat", "vfat", "iso9660"].contains(volume.type),
                let mounted = try? OpenedVolume(volume), let root = try? AnchoredFolder(mounted.folder),
                let bytes = try? root.read(buildIDFile, limit: 4096)
            else { return false }
            return checkedBuildID(String(decoding: bytes, as: UTF8.self)) == own
        }
        return decide(carriers: carriers)
    }

    /// Publishes the disks that other commands must never write.
    func publish() {
        let text = disks.map { $0 + "\n" }.joined()
        try? Files.write(Array(text.utf8), to: RecoveryPaths.medium)
    }

    /// Copies the hooks on the REFORGE volume into memory; empty if there are none.
    func copiedHooks() throws(JobFailure) -> [String] {
        guard let volume else { return [] }
        let mounted = try OpenedVolume(volume)
        let root: AnchoredFolder
        do { root = try AnchoredFolder(mounted.folder) } catch { throw JobFailure(.ioError, "\(error)") }
        return try MediumHooks.copied(from: root)
    }

    /// The bytes of `reforge.json` on the REFORGE volume; `nil` if there is none.
    func settingsFileBytes() -> [UInt8]? {
        guard let volume, let mounted = try? OpenedVolume(volume), let root = try? AnchoredFolder(mounted.folder)
        else {
            return nil
        }
        return try? root.read(Self.settingsFile, limit: RecoverySettings.jsonLimit)
    }
}
