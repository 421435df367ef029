// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// A disk that a selector may choose or must not.
package struct DiskCandidate: Equatable, Sendable {
    /// Why a disk is not for this purpose.
    package enum Exclusion: Equatable, Sendable, CustomStringConvertible {
        /// The recovery medium is on it.
        case medium
        /// The image to restore from is on it, or the one to write.
        case image
        /// What does not fit for a while is kept on it.
        case scratch

        /// A sentence part.
        package var description: String {
            switch self {
            case .medium: "the recovery medium is on it"
            case .image: "the image is on it"
            case .scratch: "the scratch is on it"
            }
        }
    }

    /// Which disk.
    package var identity: DiskIdentity
    /// Its size in bytes.
    package var byteCount: UInt64
    /// Whether it is made to be taken out: USB, an SD card, or what the kernel calls removable.
    package var isRemovable: Bool
    /// Why it is never chosen; `nil` where it may be.
    package var exclusion: Exclusion?

    /// Describes a disk.
    package init(
        identity: DiskIdentity, byteCount: UInt64, isRemovable: Bool = false, exclusion: Exclusion? = nil
    ) {
        self.identity = identity
        self.byteCount = byteCount
        self.isRemovable = isRemovable
        self.exclusion = exclusion
    }

    /// A line of a list.
    package var line: String {
        var parts = [identity.path, ByteText.rounded(byteCount), identity.transport]
        if let model = identity.model { parts.append(model.printable) }
        if let serial = identity.serial { parts.append("serial=\(serial.printable)") }
        if let wwn = identity.wwn { parts.append("wwn=\(wwn.printable)") }
        if let place = identity.pathByPlace { parts.append("path=\(place)") }
        if isRemovable { parts.append("removable") }
        if let exclusion { parts.append("(\(exclusion))") }
        return parts.joined(separator: "  ")
    }
}

extension DiskSelector {
    /// Whether it fits a disk, whatever speaks against choosing that.
    package func matches(_ disk: DiskCandidate) -> Bool {
        switch self {
        case .serial(let serial): disk.identity.serial?.strippedSpaces == serial
        case .wwn(let name):
            disk.identity.wwn.map { Self.normalizedName($0) == Self.normalizedName(name) } ?? false
        case .path(let place): disk.identity.pathByPlace == place
        // A stick or a backup disk must not be taken because the internal disk is missing, or late.
        case .atLeast(let byteCount): disk.byteCount >= byteCount && !disk.isRemovable
        case .only: !disk.isRemovable
        case .onlyRemovable: disk.isRemovable
        case .node(let path): disk.identity.path == path
        }
    }

    /// Whether it names one disk for what that is, so that choosing an excluded one is a mistake worth a sentence.
    private var isExplicit: Bool {
        switch self {
        case .serial, .wwn, .path, .node: true
        case .atLeast, .only, .onlyRemovable: false
        }
    }

    /// The one disk that it chooses.
    /// - Parameter reading: whether the disk is only read: then the medium's may be named (not guessed).
    /// - Throws: status 78 where none or several match, 77 where the disk named is the medium's or the image's. The
    ///   message lists the disks.
    package func choose(from disks: [DiskCandidate], reading: Bool = false) throws(JobFailure) -> DiskCandidate {
        let matching = disks.filter(matches)
        let allowed = allowed(from: disks)
        if allowed.count == 1, let disk = allowed.first, !isExplicit || matching.count == 1 { return disk }
        if isExplicit, matching.count == 1, let disk = matching.first, let exclusion = disk.exclusion {
            if reading, exclusion == .medium { return disk }
            throw JobFailure(
                .refused,
                "\(printed == disk.identity.path ? "That is" : "\(printed) names") \(disk.identity.path), but \(exclusion): \(reading ? "an image cannot hold itself" : "that disk is never written"). Nothing was written."
            )
        }
        let count = isExplicit ? matching.count : allowed.count
        var problem = count == 0 ? "no disk matches" : "\(count) disks match, and only one may"
        if count == 0, self != .onlyRemovable, disks.contains(where: { $0.isRemovable && $0.exclusion == nil }) {
            problem += " (removable disks are taken by only-removable, or by their serial number)"
        }
        throw JobFailure(
            .ambiguous, "\(printed): \(problem). Nothing was written.\n" + Self.list(disks))
    }

    /// The disks that it matches and that nothing speaks against.
    func allowed(from disks: [DiskCandidate]) -> [DiskCandidate] {
        disks.filter { matches($0) && $0.exclusion == nil }
    }

    /// Whether it could fit more disks than are there yet: then waiting longer is worth it.
    var isOpen: Bool { !isExplicit }
    private var printed: String { description.printable }

    /// All disks, a line each.
    package static func list(_ disks: [DiskCandidate]) -> String {
        disks.isEmpty
            ? "There are no disks." : "The disks:\n" + disks.map { "  \($0.line)" }.joined(separator: "\n")
    }
}
