// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Keeps what a trial start has shown: with the snapshot or beside the image file, and in the folder of `--output`.
///
/// A place that takes nothing, such as a read-only repository, is a warning: the verdict is the same without it.
struct ProofKeeper {
    private let image: BootedImage
    private let folder: FilePath?
    private let toolVersion: String
    private let keys: KeyRing

    /// Where a verdict is kept.
    struct Places: Codable, Equatable, Sendable {
        /// The repository, or the file beside the image; `nil` if it is kept with neither.
        var proof: String?
        /// The files in the folder of `--output`.
        var files: [String] = []
        /// Why it is not kept in a place where it should be, as sentences.
        var problems: [String] = []
    }

    init(_ image: BootedImage, _ folder: FilePath?, toolVersion: String, _ keys: KeyRing) {
        (self.image, self.folder, self.toolVersion, self.keys) = (image, folder, toolVersion, keys)
    }

    /// Keeps a verdict.
    func keep(_ trial: ProofTrial, _ verdict: BootVerdict, expecting text: String?) -> Places {
        keep(proof(trial, verdict.proofVerdict, verdict.sign(expecting: text) + image.lossText))
    }

    /// Keeps a start that gave no verdict. Damage of the image is one: it takes the place of an older proof.
    func keep(_ trial: ProofTrial, failed failure: JobFailure) {
        if failure.status == .badImage {
            _ = keep(proof(trial, .notProven, "image-damaged: \(failure.message)"))
        } else if let folder {
            do { try ProofFiles(in: folder).write(screenshot: trial.screen, serialLog: trial.serialLog) } catch {
                keys.events.warn("proof-not-stored", Self.notStored(error, folder.string))
            }
        }
    }

    private func proof(_ trial: ProofTrial, _ verdict: RestoreProof.Verdict, _ sign: String) -> RestoreProof {
        let facts = RestoreProof.Facts(
            imageID: image.provenID, verdict: verdict, sign: sign,
            made: SystemFacts.utcText(SystemFacts.unixSeconds()), toolVersion: toolVersion,
            firmware: image.choice.isUEFI ? "uefi" : "bios", qemuVersion: trial.qemuVersion,
            seconds: Int(min(max(0, trial.seconds), 1e9)))
        return RestoreProof(facts, screenshot: trial.screen, serialLog: trial.serialLog)
    }

    private func keep(_ proof: RestoreProof) -> Places {
        var places = Places()
        if let folder {
            do { places.files = try ProofFiles(in: folder).write(proof, image.source.identity).map(\.string) } catch {
                places.problems.append(Self.notStored(error, folder.string))
            }
        }
        if image.provenID != nil, let exact = image.source.exactText {
            do { places.proof = try KeptProofs.store(proof, for: exact, keys) } catch {
                places.problems.append(
                    Self.notStored(JobFailure(error, cancellation: keys.cancellation), image.source.text)
                        + (folder == nil ? "; --output keeps it in a folder" : ""))
            }
        }
        for problem in places.problems { keys.events.warn("proof-not-stored", problem) }
        return places
    }

    private static func notStored(_ error: any Error, _ place: String) -> String {
        "the verdict is not stored with \(place): \(error)"
    }
}

extension BootedImage {
    /// The id of what a proof is about; `nil` for a disk, and for an overlay, whose base is another system.
    var provenID: ContentHash? { isOverlay ? nil : source.imageID }

    /// What a verdict says of an image that was not whole from the start; empty for a whole one.
    var lossText: String {
        let byteCount = source.unreadable.reduce(UInt64(0)) { $0 &+ $1.byteCount }
        guard byteCount > 0 else { return "" }
        return "; \(ByteText.exact(byteCount)) of the image could not be read when it was captured, and were not needed"
    }
}

extension BootVerdict {
    var proofVerdict: RestoreProof.Verdict {
        switch self {
        case .proven: .proven
        case .started: .started
        case .notProven: .notProven
        }
    }

    /// The sign or the reason: its name for programs, and a sentence part for a person.
    func sign(expecting text: String?) -> String {
        switch self {
        case .proven(.expectedText(let place)):
            "expected-text: “\(String((text ?? "").unicodeScalars.prefix(200)))” was on \(place.description)"
        case .proven(let sign): "\(sign.name): \(sign.description)"
        case .started: "no-sign: the screen stands still, and nothing says what it shows"
        case .notProven(let reason): "\(reason.rawValue): the system \(reason.sentence)"
        }
    }
}
