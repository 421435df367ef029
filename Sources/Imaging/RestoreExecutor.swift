// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage

/// Executes a restore plan: data → resize → commit, so that an unfinished disk never looks whole.
package final class RestoreExecutor {
    private let setup: RestoreSetup

    /// The current state of the target, for any thread.
    package var stateNow: TargetState { setup.state }
    /// The current state of the target.
    package var state: DiskState { stateNow.value }
    /// Whether the same restore could resume where it stopped; false if a filesystem cannot shrink as planned.
    package var goesOn: Bool { stateNow.goesOn }

    /// Prepares a restore.
    /// - Parameters:
    ///   - target: opened for writing since the survey.
    ///   - targetPath: the node or file for other programs; `nil` in tests on memory.
    ///   - scratch: for the parts of shrinking filesystems that exceed their partitions; required if the plan has such.
    ///   - cancellation: ends the restore between two of its steps or chunks.
    ///   - expectedImageID: the id (or the start of one, in hexadecimal) that the image must have.
    ///   - log: receives lines on the progress.
    package init(
        _ plan: RestorePlan, target: any BlockWriter, targetPath: FilePath?, options: Options = Options(),
        progress: Progress, cancellation: Cancellation = Cancellation(),
        workers: Int = SystemFacts.processorCount(), expectedImageID: String? = nil,
        scratch: RestoreScratch? = nil, log: @escaping (String) -> Void = { _ in }
    ) {
        // A backup table lies after all partitions; a disk without a table may have a superblock (md, ZFS) at its end.
        let area = plan.only?.range ?? 0..<target.byteCount
        let writer = TargetWriter(
            target, area: area,
            tailStart: plan.placements == nil || plan.only != nil
                ? area.upperBound - min(area.byteCount, 1 << 20)
                : plan.placements?.map(\.to.upperBound).max() ?? target.byteCount,
            scratch: scratch?.writer)
        setup = RestoreSetup(
            plan: plan, options: options, writer: writer, targetPath: targetPath, scratch: scratch,
            workers: max(1, workers), expectedImageID: expectedImageID, state: TargetState(), progress: progress,
            cancellation: cancellation, log: log)
    }

    /// Restores `image` from its first record to its end. With a `salvage`, lost ranges become zeros.
    package func run(_ image: any ImageReader) throws(ImagingError) -> Outcome {
        do {
            try check(image.header)
            return try RestoreRun(setup, image).run()
        } catch {
            throw ImagingError(error)
        }
    }

    /// Fails if the plan is for another image, or if its scratch is missing.
    private func check(_ header: ImageHeader) throws(ImagingError) {
        let plan = setup.plan
        guard header.maps.count == plan.destinations.count, header.manifest.imageUUID == plan.imageUUID else {
            throw .failed("the plan was made for another image")
        }
        guard plan.shrinks.allSatisfy({ !$0.needsComposite }) || setup.scratch != nil && setup.targetPath != nil else {
            throw .failed("there is no scratch for the filesystems that shrink")
        }
        guard plan.remakes.isEmpty || setup.scratch != nil else {
            throw .failed("there is no scratch for the FATs that are recreated")
        }
    }
}
