// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel

/// A disk that a selector may or must not choose.
package struct DiskCandidate: Equatable, Sendable {
    /// The reason to exclude a disk.
    package enum Exclusion: Equatable, Sendable, CustomStringConvertible {
        /// The recovery medium is on it.
        case medium
        /// It holds the image to be restored or written.
        case image
        /// It holds the scratch space.
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

    /// The identity of the disk.
    package var identity: DiskIdentity
    /// Its size in bytes.
    package var byteCount: UInt64
    /// Whether it is removable media: USB, an SD card, or marked removable by the kernel.
    package var isRemovable: Bool
    /// The reason it is never chosen; `nil` if it may be.
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
    /// Whether it matches a disk, ignoring exclusions.
    package func matches(_ disk: DiskCandidate) -> Bool {
        switch self {
        case .serial(let serial): disk.identity.serial?.strippedSpaces == serial
        case .wwn(let name):
            disk.identity.wwn.map { Self.normalizedName($0) == Self.normalizedName(name) } ?? false
        case .path(let place): disk.identity.pathByPlace == place
        // A stick or a backup disk must not be chosen because the internal disk is missing, or late.
        case .atLeast(let byteCount): disk.byteCount >= byteCount && !disk.isRemovable
        case .only: !disk.isRemovable
        case .onlyRemovable: disk.isRemovable
        case .node(let path): disk.identity.path == path
        }
    }

    /// Whether it identifies one disk, so that choosing an excluded one deserves an explanation.
    private var isExplicit: Bool {
        switch self {
        case .serial, .wwn, .path, .node: true
        case .atLeast, .only, .onlyRemovable: false
        }
    }

    /// The one disk that it chooses.
    /// - Parameter reading: whether the disk is only read: the medium's disk may then be named explicitly.
    /// - Throws: status 78 if none or several match, 77 if the named disk holds the medium or the image. The message
    ///   lists the disks.
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
            problem += " (to choose a removable disk, use only-removable or its serial number)"
        }
        throw JobFailure(
            .ambiguous, "\(printed): \(problem). Nothing was written.\n" + Self.list(disks))
    }

    /// The matching disks that are not excluded.
    func allowed(from disks: [DiskCandidate]) -> [DiskCandidate] {
        disks.filter { matches($0) && $0.exclusion == nil }
    }

    /// Whether disks that appear later could match too, which makes further waiting useful.
    var isOpen: Bool { !isExplicit }
    private var printed: String { description.printable }

    /// All disks, one per line.
    package static func list(_ disks: [DiskCandidate]) -> String {
        disks.isEmpty
            ? "There are no disks." : "The disks:\n" + disks.map { "  \($0.line)" }.joined(separator: "\n")
    }
}
