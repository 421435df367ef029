// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

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

/// Which disk an unattended job is about.
package enum DiskSelector: Equatable, Sendable, CustomStringConvertible {
    /// The serial number, exactly.
    case serial(String)
    /// The World Wide Name, with or without its kind (`naa.`, `eui.`, `0x`), either case.
    case wwn(String)
    /// The place in the machine, as /dev/disk/by-path names it.
    case path(String)
    /// An internal disk of at least so many bytes.
    case atLeast(UInt64)
    /// The only internal disk that is neither the medium's nor the image's.
    case only
    /// The only removable disk (USB, SD) that is neither the medium's nor the image's.
    case onlyRemovable
    /// The disk at a path such as `/dev/sda`. Not for settings, where such a name means another disk at the next boot.
    case node(String)

    /// Parses `serial=…`, `wwn=…`, `path=…`, `size>=…`, `only` or `only-removable`.
    package static func parse(_ text: String) throws(RecoveryError) -> DiskSelector {
        func refuse(_ why: String) -> RecoveryError {
            RecoveryError(
                ExitStatus.usage,
                "\(text.printable): \(why). Selectors are serial=..., wwn=..., path=... (as in /dev/disk/by-path), size>=... (K, M, G, T), only and only-removable."
            )
        }
        if text == "only" { return .only }
        if text == "only-removable" { return .onlyRemovable }
        if let value = text.valueAfter("serial=") {
            guard !value.isBlank else { throw refuse("the serial number is empty") }
            return .serial(value.strippedSpaces)
        }
        if let value = text.valueAfter("wwn=") {
            guard !normalizedName(value).isEmpty else { throw refuse("the name is empty") }
            return .wwn(value)
        }
        if let value = text.valueAfter("path=") {
            let place = value.valueAfter("/dev/disk/by-path/") ?? value
            guard !place.isBlank, !place.contains("/") else { throw refuse("that is not a by-path name") }
            return .path(place)
        }
        if let value = text.valueAfter("size>=") {
            guard let byteCount = SizeText.parse(value) else { throw refuse("\"\(value.printable)\" is not a size") }
            return .atLeast(byteCount)
        }
        throw refuse("not a disk selector")
    }

    /// The text that parses to this.
    package var description: String {
        switch self {
        case .serial(let serial): "serial=\(serial)"
        case .wwn(let name): "wwn=\(name)"
        case .path(let place): "path=\(place)"
        case .atLeast(let byteCount): "size>=\(byteCount)"
        case .only: "only"
        case .onlyRemovable: "only-removable"
        case .node(let path): path
        }
    }

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
    package func choose(from disks: [DiskCandidate], reading: Bool = false) throws(RecoveryError) -> DiskCandidate {
        let matching = disks.filter(matches)
        let allowed = allowed(from: disks)
        if allowed.count == 1, let disk = allowed.first, !isExplicit || matching.count == 1 { return disk }
        if isExplicit, matching.count == 1, let disk = matching.first, let exclusion = disk.exclusion {
            if reading, exclusion == .medium { return disk }
            throw RecoveryError(
                ExitStatus.refused,
                "\(printed == disk.identity.path ? "That is" : "\(printed) names") \(disk.identity.path), but \(exclusion): \(reading ? "an image cannot hold itself" : "that disk is never written"). Nothing was written."
            )
        }
        let count = isExplicit ? matching.count : allowed.count
        var problem = count == 0 ? "no disk matches" : "\(count) disks match, and only one may"
        if count == 0, self != .onlyRemovable, disks.contains(where: { $0.isRemovable && $0.exclusion == nil }) {
            problem += " (removable disks are taken by only-removable, or by their serial number)"
        }
        throw RecoveryError(
            ExitStatus.noSingleDisk, "\(printed): \(problem). Nothing was written.\n" + Self.list(disks))
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

    /// Without the kind of name and without signs that udev and sysfs write differently.
    static func normalizedName(_ name: String) -> String {
        var text = name.strippedSpaces.lowercased()
        for kind in ["naa.", "eui.", "uuid.", "t10.", "nvme.", "0x"] {
            if let rest = text.valueAfter(kind) {
                text = rest
                break
            }
        }
        return String(text.filter { !$0.isWhitespace && $0 != "-" })
    }
}

extension String {
    /// Without control characters, for consoles: a disk may report anything as its name.
    package var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { scalar in
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse: "?"
                    default: scalar
                    }
                }))
    }
    /// Without white space at both ends.
    var strippedSpaces: String {
        var view = self[...]
        while view.first?.isWhitespace == true { view.removeFirst() }
        while view.last?.isWhitespace == true { view.removeLast() }
        return String(view)
    }
    var isBlank: Bool { allSatisfy(\.isWhitespace) }
}
