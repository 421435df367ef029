// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// A disk that is restored onto another disk: a clone without an image in between. Its data is read while the target is
/// written, by the rules of a capture.
package struct ClonedDisk {
    let opened: OpenedDisk
    let source: DiskSource
    let survey: DiskSurvey
    let recording: DiskRecording

    /// Whether an argument in place of an image is a disk to clone.
    static func isDisk(_ text: String) -> Bool {
        guard let status = try? Stat(FilePath(text)) else { return false }
        return status.type == .blockSpecial
    }

    /// - Parameters:
    ///   - rescues: whether unreadable sectors become zeros.
    ///   - keyFiles: the keys of LUKS volumes, of which only used sectors are read then.
    /// - Throws: `JobFailure` for a disk that may change while it is read, or that holds no disk's contents.
    init(_ path: String, rescues: Bool, keyFiles: [String], _ keys: KeyRing) throws {
        let disk = try SourceDisk(
            path, for: .clone, rescues: rescues, keyFiles: keyFiles, leftOut: .longGaps, uuid: Self.uuid(of:), keys)
        (opened, source, survey) = (disk.opened, disk.source, disk.survey)
        let source = disk.source
        recording = try DiskRecording(disk.plan, of: source.reader) { () throws(ImageError) in
            // The sentence is `DiskSource.check`'s: see `RestoreOperation.cloneFailure`.
            guard source.change == nil else { throw .changed(name: path) }
        }
    }

    /// The identity of the recording: the same for the same disk with the same table, at any time, so that an
    /// interrupted clone recognizes it.
    static func uuid(of survey: DiskSurvey) throws -> GUID {
        let (identity, table) = (survey.identity, survey.table)
        var facts = Array("reforge disk".utf8)
        for text in [identity.serial, identity.wwn, identity.model, table.diskGUID?.description] {
            let bytes = Array((text ?? "").utf8)
            facts.appendLittleEndian(UInt64(bytes.count))
            facts += bytes
        }
        facts.appendLittleEndian(UInt64(table.diskSignature ?? 0))
        facts.appendLittleEndian(survey.geometry.byteCount)
        facts.appendLittleEndian(UInt64(clamping: survey.geometry.logicalSectorSize))
        for volume in survey.volumes {
            facts.appendLittleEndian(volume.range.lowerBound)
            facts.appendLittleEndian(volume.range.upperBound)
            let uuid = Array("\(volume.filesystem.kindName) \(volume.filesystem.uuid ?? "")".utf8)
            facts.appendLittleEndian(UInt64(uuid.count))
            facts += uuid
        }
        return try GUID(bigEndianBytes: Array(ContentHash(of: facts).bytes.prefix(16)))
    }

    /// The name that confirms one disk beside another: its serial number, except where both have the same one, as cheap
    /// USB adapters give it.
    static func confirmationText(of one: DiskIdentity, besides other: DiskIdentity) -> String {
        let own = one.confirmationText
        return own == other.confirmationText ? one.kernelName ?? one.path : own
    }

    /// The answers that confirm the target. The name of the source never does.
    static func answers(target: DiskIdentity, source: DiskIdentity) -> Set<String> {
        Set([confirmationText(of: target, besides: source), target.kernelName, target.path].compactMap { $0 })
            .subtracting([source.confirmationText, source.kernelName ?? source.path, source.path])
    }

    /// Refuses a target that is this disk, a part of it, or lies on it, by whatever name.
    func refuseSame(as target: OpenedDisk) throws {
        let (from, to) = (opened.identity, target.identity)
        let directory = DiskDirectory()
        guard let one = opened.kernelName else { return }
        var why: String?
        if let other = target.kernelName {
            if directory.overlap(one, other) {
                why = one == other ? "are the same disk" : "share the same bytes (\(one) and \(other))"
            } else if let wwn = from.wwn, wwn == to.wwn, from.transport != "usb" {
                // Two paths to one disk. Some USB adapters give every disk the same name.
                why = "are two paths to the same disk (\(wwn))"
            }
        } else if directory.overlap(file: FilePath(to.path), one) {
            why = "share the same bytes: the file lies on that disk"
        }
        if let why { throw JobFailure(.refused, "\(from.path) and \(to.path) \(why): name another target") }
    }

    /// What looks as if source and target were swapped, as a sentence; `nil` if nothing does.
    /// - Parameter target: the target's survey; `nil` if it cannot be surveyed.
    static func swapSign(from source: DiskSurvey, to target: DiskSurvey?) -> String? {
        guard let target, !target.isBlank else { return nil }
        let (from, to) = (source.identity.path, target.identity.path)
        if source.isBlank { return "\(from) is blank, and \(to) holds data" }
        guard source.geometry.byteCount < target.geometry.byteCount, target.holdsSystem else { return nil }
        return "\(from) is the smaller disk, and \(to) holds boot code or boot loaders of a system"
    }

    /// The lines about source and target in front of a plan.
    func lines(target: OpenedDisk, _ survey: DiskSurvey?, _ swapSign: String?) -> [String] {
        var lines = ["From \(Self.name(opened))", "  holds \(self.survey.contents)"]
        lines += ["To   \(Self.name(target))"]
        lines.append("  holds \(survey?.contents ?? "what cannot be read, and will be lost")")
        if let swapSign { lines.append("Are the two swapped? \(swapSign).") }
        return lines
    }

    private static func name(_ disk: OpenedDisk) -> String {
        let identity = disk.identity
        return "\(identity.path.printable): \((identity.model ?? "no model").printable), serial "
            + "\((identity.serial ?? "none").printable), \(ByteText.rounded(disk.device.byteCount)), attached by "
            + identity.transport
    }
}
