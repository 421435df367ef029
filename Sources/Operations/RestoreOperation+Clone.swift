// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

extension RestoreOperation {
    /// Opens the image, or the disk to clone.
    func openedInput() throws -> OpenedImage {
        guard ClonedDisk.isDisk(image) else {
            if job.rescues || job.confirmedSource != nil {
                throw JobFailure(
                    .usage, "\(image) is not a block device: --rescue and --confirm-source are for cloning a disk")
            }
            return try OpenedImage.open(
                image, keys, salvages: job.salvages, scratch: job.scratch.map { .folder(FilePath($0)) } ?? .usual)
        }
        if job.salvages {
            throw JobFailure(.usage, "\(image) is a disk: --rescue reads around its unreadable sectors, not --salvage")
        }
        if job.expectedImageID != nil {
            throw JobFailure(.usage, "\(image) is a disk, and has no image id: --confirm-source names the right one")
        }
        // The same disk is refused before the target is opened for itself alone: that message names the mistake.
        let target = try OpenedDisk(disk, .readOnly, sectorSize: job.sectorSize)
        do {
            let source = try ClonedDisk(image, rescues: job.rescues, keyFiles: job.luksKeyFiles, keys)
            try source.refuseSame(as: target)
            return OpenedImage(source)
        } catch let error as BlockIOError {
            throw rescueAdvice(error) ?? error
        }
    }

    /// The failure of a clone with the sentence that fits a disk; `nil` for all other failures.
    func cloneFailure(_ error: any Error) -> JobFailure? {
        guard let clone, case .image(let cause)? = error as? ImagingError else { return nil }
        switch cause {
        case .changed:
            do { try clone.source.check() } catch { return JobFailure(error, cancellation: cancellation) }
            return nil
        case .system(let call) where call.errno == .ioError && !job.rescues:
            var failure = JobFailure(error, cancellation: cancellation)
            failure.message += Self.rescueHint
            return failure
        default: return nil
        }
    }

    private func rescueAdvice(_ error: BlockIOError) -> (any Error)? {
        guard error.operation == .read, error.errorNumber != 0, !job.rescues else { return nil }
        var failure = JobFailure(error, cancellation: cancellation)
        failure.message += Self.rescueHint
        return failure
    }

    private static let rescueHint = "; --rescue retries, reads around what cannot be read, and lists the losses"

    /// Source and target of a clone, for the plan and the questions.
    struct CloneFacts {
        var lines: [String]
        /// What looks as if the two were swapped, as a sentence.
        var swapSign: String?
        /// The name that confirms the source.
        var sourceName: String
    }

    /// - Returns: `nil` for a restore of an image.
    func cloneFacts(_ target: OpenedDisk) throws -> CloneFacts? {
        guard let clone else { return nil }
        let sourceName = ClonedDisk.confirmationText(of: clone.opened.identity, besides: target.identity)
        if let named = job.confirmedSource, named != sourceName {
            throw JobFailure(
                .refused,
                "--confirm-source \(named) names another disk: the source \(image) is \(sourceName.printable). Check which "
                    + "disk is to be cloned")
        }
        // Contents only: whether every sector counts as used makes no difference to what is shown.
        let survey = try? target.survey(allUsed: true)
        // With --only, the target has a system beside the partition that is overwritten.
        let sign = job.only == nil ? ClonedDisk.swapSign(from: clone.survey, to: survey) : nil
        return CloneFacts(lines: clone.lines(target: target, survey, sign), swapSign: sign, sourceName: sourceName)
    }

    /// How a clone that looks swapped is confirmed without a terminal.
    func swapConfirmation(_ facts: CloneFacts?) -> String? {
        guard let facts, facts.swapSign != nil, job.confirmedSource == nil else { return nil }
        return "--confirm-source \(facts.sourceName.printable) confirms this source without a terminal"
    }

    /// Asks once more where source and target look swapped, even with `--yes`.
    func confirmSource(_ facts: CloneFacts?) throws {
        guard let facts, let sign = facts.swapSign, job.confirmedSource == nil else { return }
        let question =
            facts.lines.filter { $0 != "Are the two swapped? \(sign)." }.joined(separator: "\n")
            + "\nAre the two swapped? \(sign). All data is read from \(image), and \(disk) is overwritten.\n"
            + "Type the source, \(facts.sourceName.printable), to confirm: "
        guard confirmer.canAsk(whileStreaming: false),
            confirmer.answer(to: Question(question, isStreaming: false)) == facts.sourceName
        else {
            throw JobFailure(
                cancellation.isRequested ? cancellation.exitStatus : .refused,
                "\(image) and \(disk) look swapped: \(sign). If they are not, type the source on a terminal, or add "
                    + "--confirm-source \(facts.sourceName.printable)")
        }
    }

    /// Completes the report of a clone.
    func noteClone(_ report: inout RestoreReport) {
        guard let clone else { return }
        report.source = clone.opened.identity
        // A disk has no image id: the recording's holds the time.
        report.imageID = nil
        guard !report.dryRun else { return }
        // The data is of one moment: that was checked before the commit.
        if let change = clone.source.change {
            report.warnings.append(
                "\(image) is no longer as it was cloned: \(change) after its data was read. \(disk) has its earlier state"
            )
        }
        report.advice =
            "Detach \(image) or \(disk) before you start either: they carry the same ids, and a system may mount the other "
            + "disk's filesystems"
    }

    /// The attached copies of a filesystem that a resize could confuse it with. The source of a clone is one, but the
    /// tools work on the target's node alone, and Btrfs is refused only while a copy is mounted.
    func twins(of filesystem: FilesystemInfo, besides target: String?) -> [String] {
        let nodes = AttachedTwins.nodes(of: filesystem, besides: target)
        guard let source = clone?.opened.kernelName else { return nodes }
        let directory = DiskDirectory()
        return nodes.filter { node in
            !directory.overlap(FilePath(node).lastComponent?.string ?? node, source)
        }
    }
}
