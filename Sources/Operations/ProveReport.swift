// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import Emulator
import ImageModel
import JobModel

/// Whether an image was proven to boot, and by what.
package struct ProveReport: Codable, Equatable, Sendable {
    package var schema = 1
    /// The argument; of a snapshot, with its id.
    package var image: String
    /// `nil` for a disk and a kept overlay.
    package var imageID: String?
    package var verdict: RestoreProof.Verdict
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
    package var qemuVersion: String
    /// When the machine was started: RFC 3339 in UTC.
    package var started: String
    package var seconds: Double
    /// The text on the screen at the end; `nil` for a picture.
    package var screenText: [String]?
    /// Where the verdict is kept.
    var stored = ProofKeeper.Places()

    package var outcome: Outcome { Outcome(verdict == .proven ? .done : .incomplete) }

    init(_ job: ProveJob, _ image: BootedImage, _ verdict: BootVerdict, _ trial: ProofTrial) {
        // The source of an overlay is its base.
        self.image = image.isOverlay ? job.image : image.source.exactText ?? image.source.text
        imageID = image.provenID?.description
        firmware = image.choice.isUEFI ? "uefi" : "bios"
        disk = image.choice.bus.rawValue
        accelerator = image.choice.usesKVM ? "kvm" : "tcg"
        memoryByteCount = image.choice.memoryByteCount
        (started, seconds, screenText) = (trial.started, trial.seconds, trial.screenText)
        qemuVersion = trial.qemuVersion
        self.verdict = verdict.proofVerdict
        switch verdict {
        case .proven(let found):
            sign = found.name
            message = "proven: the system started, and \(found.description)\(image.lossText)"
        case .started:
            message =
                "started, not proven: the screen stands still, and nothing says what it shows. Look at its picture "
                + "(--output DIR); a guest agent in the system, or --expect TEXT, is proof"
        case .notProven(let why):
            reason = why.rawValue
            message = "not proven: the system \(why.sentence)"
            if why == .timeout {
                message +=
                    " (--timeout gives it more"
                    + (image.choice.usesKVM ? "; --no-kvm rules out that KVM hangs on this host)" : ")")
            }
        }
    }

    /// For a person.
    package var lines: [String] {
        [message] + [stored.proof].compactMap { $0.map { "The verdict is stored: \($0.printable)" } }
            + stored.files.map(\.printable)
    }
}
