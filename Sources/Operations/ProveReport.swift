// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import Emulator
import JobModel

/// Whether an image was proven to boot, and by what.
package struct ProveReport: Codable, Equatable, Sendable {
    package enum Verdict: String, Codable, Sendable {
        case proven
        /// It runs, and nothing says what it shows.
        case started
        case notProven = "not-proven"
    }

    package var schema = 1
    package var image: String
    package var imageID: String?
    package var verdict: Verdict
    /// What proved it: `guest-agent`, `serial-login`, `screen-login` or `expected-text`.
    package var sign: String?
    /// Why it is not proven (`BootVerdict.Reason`).
    package var reason: String?
    /// A sentence for a person.
    package var message: String
    package var firmware: String
    package var disk: String
    /// `kvm` or `tcg`.
    package var accelerator: String
    package var memoryByteCount: UInt64
    /// When the machine was started: RFC 3339 in UTC.
    package var started: String
    package var seconds: Double
    /// The text on the screen at the end; `nil` for a picture.
    package var screenText: [String]?

    package var outcome: Outcome { Outcome(verdict == .proven ? .done : .incomplete) }

    init(_ image: BootedImage, _ verdict: BootVerdict, started: String, seconds: Double, screenText: [String]?) {
        self.image = image.source.exactText ?? image.source.text
        imageID = image.source.imageID?.description
        firmware = image.choice.isUEFI ? "uefi" : "bios"
        disk = image.choice.bus.rawValue
        accelerator = image.choice.usesKVM ? "kvm" : "tcg"
        memoryByteCount = image.choice.memoryByteCount
        (self.started, self.seconds, self.screenText) = (started, seconds, screenText)
        switch verdict {
        case .proven(let found):
            self.verdict = .proven
            sign = found.name
            message = "proven: the system started, and \(found.description)"
        case .started:
            self.verdict = .started
            message =
                "started, not proven: the screen stands still, and nothing says what it shows. --output DIR keeps "
                + "a picture of it; a guest agent in the system, or --expect TEXT, is proof"
        case .notProven(let why):
            self.verdict = .notProven
            reason = why.rawValue
            message = "not proven: the system \(why.sentence)"
        }
    }
}

/// Where verdicts are stored besides the files of `--output`: with the snapshot.
package protocol ProofStore {
    /// - Parameter screen: a PNG file of the screen at the end, if there is one.
    func store(_ report: ProveReport, screen: [UInt8]?) throws
}
