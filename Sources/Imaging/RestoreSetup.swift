// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The inputs of a restore besides its image.
struct RestoreSetup {
    let plan: RestorePlan
    let options: RestoreExecutor.Options
    let writer: TargetWriter
    /// The node or file for other programs; `nil` in tests on memory.
    let targetPath: FilePath?
    let scratch: RestoreScratch?
    /// The number of writing threads.
    let workers: Int
    let expectedImageID: String?
    let state: TargetState
    let progress: Progress
    let cancellation: Cancellation
    let log: (String) -> Void
}
