// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FilesystemResize
import Filesystems
import LinuxSystem

/// Fits restored filesystems into their places. The disk has no table yet, except for growths on a bare disk or with
/// `only`: after a failure, the disk boots nothing, and the same restore writes the filesystem again.
struct FilesystemFitter {
    private let plan: RestorePlan
    private let writer: TargetWriter
    private let scratch: RestoreScratch?
    /// Resizes filesystems; `nil` in tests on memory.
    private let resizer: RestoreResizer?
    /// The partitions with lost ranges; `nil` stands for the bare disk.
    private let holed: Set<Int?>
    private let state: TargetState
    private let progress: Progress
    private let cancellation: Cancellation
    private let log: (String) -> Void

    init(_ setup: RestoreSetup, _ resizer: RestoreResizer?, holed: Set<Int?>) {
        plan = setup.plan
        writer = setup.writer
        scratch = setup.scratch
        self.resizer = resizer
        self.holed = holed
        state = setup.state
        progress = setup.progress
        cancellation = setup.cancellation
        log = setup.log
    }

    /// Recreates a FAT from the one on the scratch, with sectors of the target's size.
    func make(_ remake: RestorePlan.Remake, _ outcome: inout RestoreExecutor.Outcome) throws {
        guard let scratch, let spill = plan.spill(of: remake) else {
            throw ImagingError.failed("there is no scratch for the FAT of partition \(remake.number)")
        }
        progress.begin("make the FAT of partition \(remake.number)", total: 0)
        do {
            try FATRemaker(
                remake, writer: writer, scratch: scratch.writer, scratchOffset: spill.scratchOffset, cancellation
            ).run { try writer.settle(progress) }
        } catch let error as FilesystemError {
            if case .io = error {} else { state.goesOn = false }
            throw ImagingError.failed(
                "the FAT of partition \(remake.number) could not be recreated: \(error). Check it on the captured disk and capture "
                    + "it again, or leave it out (--partition \(remake.number)=drop)")
        }
        if holed.contains(remake.number) {
            outcome.warnings.append(
                "the FAT of partition \(remake.number) was recreated from its intact data")
        }
        log("the FAT of partition \(remake.number) was recreated, and all of its files are there")
    }

    /// Shrinks a filesystem to its place.
    func shrink(_ shrink: RestorePlan.Shrink, _ outcome: inout RestoreExecutor.Outcome) throws {
        let name = "the filesystem of partition \(shrink.number)"
        if holed.contains(shrink.number), let obstacle = shrink.obstacleWithLosses {
            state.goesOn = false
            throw ImagingError.failed(obstacle)
        }
        progress.begin("shrink partition \(shrink.number)", total: 0)
        guard let resizer else { throw ImagingError.failed("\(name) cannot be made smaller in memory") }
        do {
            let made = try resizer.shrink(shrink) { try writer.settle(progress) }
            log("\(name) has shrunk to \(ByteText.rounded(made.byteCount))")
            outcome.warnings += made.remarks.map { "\(name): \($0)" }
        } catch let error as ResizeError {
            // A requested end between two steps does not mean that the filesystem cannot shrink.
            try cancellation.check()
            // The filesystem state in the error covers the partition only: the rest was on the scratch.
            switch error.problem {
            case .tooSmall: state.goesOn = false
            // A program that scans the volume group may use it for a moment: the next attempt may succeed.
            case .unsupported, .checkFailed: state.goesOn = shrink.volumeByteCounts != nil
            default: break
            }
            throw ImagingError.failed(
                "\(name) could not be made to fit its smaller partition: \(error.problem). The partition holds only a part of it"
            )
        } catch LUKSOpenError.wrongKey {
            throw ImagingError.failed(
                "\(name) could not be made to fit its smaller partition: none of the given keys opens its LUKS volume. Give the "
                    + "right one (--luks-key-file)")
        } catch {
            throw ImagingError.failed("\(name) could not be made to fit its smaller partition: \(error)")
        }
        try writer.settle(progress)
    }

    /// Grows a filesystem to its place. After a failed growth, a filesystem that is whole keeps its size; one in doubt
    /// ends the restore.
    func grow(
        _ growth: RestorePlan.Growth, _ changes: inout TargetChanges, _ outcome: inout RestoreExecutor.Outcome
    ) throws {
        guard let resizer else { return }
        let name = growth.number.map { "the filesystem of partition \($0)" } ?? "the filesystem"
        guard !holed.contains(growth.number) else {
            outcome.failedGrowths.append("\(name) was not grown: parts of it are lost. Check it first, then grow it")
            return
        }
        progress.begin("grow" + (growth.number.map { " partition \($0)" } ?? ""), total: 0)
        try changes.change(name) {
            do {
                let grown = try resizer.grow(growth)
                if let byteCount = grown.byteCount { log("\(name) has grown to \(ByteText.rounded(byteCount))") }
                outcome.failedGrowths += grown.failures
                outcome.warnings += grown.remarks.map { "\(name): \($0)" }
            } catch let error as ResizeError {
                if case .inDoubt = error.state {
                    let keep = growth.number.map { "--partition \($0)=keep" } ?? "--layout keep"
                    throw ImagingError.failed(
                        "\(name) may be damaged by a failed growth: \(error.problem). If it "
                            + "fails again, restore it with its captured size (\(plan.only == nil ? keep : "--layout keep"))"
                    )
                }
                outcome.failedGrowths.append("\(name) was not grown: \(error)")
            } catch {
                outcome.failedGrowths.append("\(name) was not grown: \(error)")
            }
            return .passed
        }
        // The tool wrote through another node: its writes must be on the medium, and not hidden by this node's cache.
        try writer.settle(progress)
    }
}
