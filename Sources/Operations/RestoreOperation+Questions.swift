// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import Codecs
import DiskModel
import FilesystemResize
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

extension RestoreOperation {
    /// Opens the image or snapshot a second time, to read all of it beforehand.
    func again(_ input: OpenedImage, _ operation: RepositoryOperation) throws -> OpenedImage {
        if let again = try input.again() { return again }
        let again = try OpenedImage.open(input.exactText ?? image, keys, operation: operation, salvages: job.salvages)
        guard again.reader.header == input.reader.header else {
            throw JobFailure(.badImage, "\(image) changed while it was looked at")
        }
        return again
    }

    /// The id of an image, if it can be known before the target is overwritten: a disk in a file is read for it.
    func knownID(_ input: OpenedImage) throws -> ContentHash? {
        if let ending = input.ending { return ending.id }
        return try input.again()?.verified(events, cancellation).ending.id
    }

    /// With `--salvage`, first reads the whole image for losses, so that the plan lists them; standard input is read
    /// only once.
    /// - Returns: the reader to restore from, and the losses found.
    func salvaging(_ input: OpenedImage) throws -> (any ImageReader, Salvage?) {
        guard job.salvages else { return (input.reader, nil) }
        guard image != "-" else {
            events.log("note: standard input is read only once: its losses are known only at the end")
            return (SalvageReader(input.reader, Salvage()), nil)
        }
        let survey = try again(input, .verify).losses(events, cancellation)
        guard !survey.isWhole else {
            events.log("\(image) is whole: there is nothing to salvage, and it is restored as usual")
            return (input.reader, survey)
        }
        // Data that was readable a moment ago must not count as lost now: an unplugged drive is not a damaged image.
        let allowed = Salvage(only: survey, byteCount: input.reader.header.manifest.geometry.byteCount)
        return (try input.salvageReader(allowed), survey)
    }

    /// Asks for confirmation of the losses, even with `--yes`.
    /// - Parameter code: identifies image and losses; for standard input, which is read only once, the image alone.
    func confirmLosses(_ code: String, _ lost: [LostRange]) throws {
        if let confirmSalvage = job.confirmedLosses {
            guard confirmSalvage.lowercased() == code else {
                throw JobFailure(
                    .refused,
                    "--confirm-salvage \(confirmSalvage) names other losses, or those of another image. To accept the losses of "
                        + "\(image) listed above: --confirm-salvage \(code)")
            }
            return
        }
        let amount =
            image == "-" ? "What is lost of it" : ByteText.exact(lost.reduce(0) { $0 + $1.captured.byteCount })
        let question =
            "\(image) is damaged: \(amount) will be zeros on \(disk).\nType salvage to restore the rest: "
        let isStreaming = image == "-"
        guard confirmer.canAsk(whileStreaming: isStreaming),
            confirmer.answer(to: Question(question, isStreaming: isStreaming)) == "salvage"
        else {
            throw JobFailure(
                cancellation.isRequested ? .interrupted : .refused,
                "the losses were not confirmed: type salvage on a terminal, or add --confirm-salvage \(code)")
        }
    }

    func confirm(_ target: OpenedDisk, _ prepared: Prepared) throws {
        if job.isConfirmed { return }
        guard confirmer.canAsk(whileStreaming: image == "-") else {
            throw JobFailure(
                .refused, "confirmation needs a terminal: check the plan with --dry-run, then add --yes")
        }
        let identity = target.identity
        let source = clone?.opened.identity
        let wanted = source.map { ClonedDisk.confirmationText(of: identity, besides: $0) } ?? identity.confirmationText
        let answers =
            source.map { ClonedDisk.answers(target: identity, source: $0) }
            ?? Set([wanted, identity.kernelName, disk].compactMap { $0 })
        let plan = prepared.plan
        let question =
            (prepared.clone.map { $0.lines.joined(separator: "\n") + "\n" } ?? "")
            + "Everything on \(plan.only.map { "partition \($0.existing) of " } ?? "")\(disk) (\(identity.model ?? "no model"), \(ByteText.rounded(target.device.byteCount))) will be lost.\n"
            + "Type \(wanted) to continue: "
        guard let answer = confirmer.answer(to: Question(question, isStreaming: image == "-")),
            answers.contains(answer)
        else {
            throw JobFailure(
                cancellation.isRequested ? cancellation.exitStatus : .refused,
                "not confirmed: the answer was not \(wanted)")
        }
    }
}
