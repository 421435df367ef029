// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import FoundationEssentials
import JobModel
import LinuxSystem
import SystemPackage

/// The mark beside `reforge.json` of a finished job, so that a stick left in the machine does not repeat it at each
/// start.
struct JobMark: Codable, Equatable {
    var schema = 1
    /// SHA-256 of the settings file, in hexadecimal digits: other settings mean another job.
    var settings: String
    /// The job: `restore of LOCATION` or `capture to LOCATION`.
    var job: String
    /// The image id, if known.
    var imageID: String?
    /// The disk, as shown in lists.
    var disk: String?
    /// The exit status.
    var status: Int32
    /// The time of its end, by this machine's clock, in UTC.
    var ended: String

    /// Its name on the REFORGE volume.
    static let fileName = "reforge-done.json"

    /// The state of the settings' job on the REFORGE volume.
    enum Finding: Equatable {
        /// The job was not done yet.
        case none
        /// The job was done.
        case done(JobMark)
        /// There is an unreadable mark. It may be of this job, cut off by a power cut.
        case unreadable
    }

    init(settings: [UInt8], job: RecoverySettings.Job, outcome: JobOutcome) {
        self.settings = Self.digest(settings)
        self.job = job.description
        imageID = outcome.imageID
        disk = outcome.disk
        status = outcome.status
        ended = SystemFacts.utcText(SystemFacts.unixSeconds())
    }

    static func digest(_ settings: [UInt8]) -> String { ContentHash(of: settings).description }

    /// A line for the user.
    var line: String {
        let id = imageID.map { " (id \($0.printable.prefix(16))...)" } ?? ""
        let place = disk.map { ", disk \($0.printable)" } ?? ""
        return "\(job.printable)\(id)\(place): ended \(ended.printable) with status \(status)"
    }

    /// The bytes of the file.
    func bytes() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(self)) + [10]
    }

    /// The state of the settings' job, according to the bytes of a mark.
    static func find(_ bytes: [UInt8], settings: [UInt8]) -> Finding {
        guard let mark = try? JSONDecoder().decode(JobMark.self, from: Data(bytes)) else { return .unreadable }
        return mark.settings == digest(settings) ? .done(mark) : .none
    }

    /// The state of the settings' job on the REFORGE volume.
    static func find(on medium: Medium, settings: [UInt8]) -> Finding {
        guard let volume = medium.volume, let mounted = try? OpenedVolume(volume),
            let root = try? AnchoredFolder(mounted.folder), root.exists(fileName)
        else { return .none }
        guard let bytes = try? root.read(fileName, limit: RecoverySettings.jsonLimit) else { return .unreadable }
        return find(bytes, settings: settings)
    }

    /// Writes the mark.
    /// - Returns: the error, as a sentence; `nil` on success.
    func save(on medium: Medium) -> String? {
        guard let volume = medium.volume else { return "the REFORGE volume is gone" }
        guard volume.isMountable(writable: true) else {
            return "\(volume.path) (\(volume.type.printable)) cannot be written to"
        }
        do {
            let bytes = try bytes()
            let mounted = try OpenedVolume(volume, writable: true)
            try Files.write(bytes, to: mounted.folder.appending(Self.fileName))
            try mounted.unmount()
            return nil
        } catch { return "\(error)" }
    }
}
