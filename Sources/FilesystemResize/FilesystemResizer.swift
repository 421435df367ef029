// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Changes the length of an unmounted filesystem, by its own well-kept tool.
package enum FilesystemResizer {
    /// What came of it.
    package struct Outcome: Equatable, Sendable {
        /// The filesystem's new length in bytes, read back from its superblock.
        package var byteCount: UInt64
        /// What a person should know: that Windows will check it, …
        package var remarks: [String]
    }

    /// Makes a filesystem fill its place.
    /// - Parameters:
    ///   - filesystem: what lies there, as surveyed when it was captured.
    ///   - place: where it lies now, with the room that it is to fill.
    ///   - log: is told what runs and what it said.
    /// - Throws: `ResizeError`, which says what state the filesystem is in.
    @discardableResult
    package static func grow(
        _ filesystem: FilesystemInfo, on place: ResizePlace, log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) -> Outcome {
        if let obstacle = filesystem.resizeAbility.growObstacle { throw ResizeError(.unsupported(reason: obstacle)) }
        return try resize(filesystem, by: try tool(for: filesystem), on: place, atMost: nil, log) {
            tool, job, _ throws(ResizeError) in
            try tool.grow(job)
        }
    }

    /// Makes a filesystem end at `byteCount` or up to a block (NTFS: a cluster and a sector) before.
    /// - Parameters:
    ///   - filesystem: what lies there, as surveyed when it was captured.
    ///   - byteCount: how much room is left for it, in bytes.
    ///   - place: where it lies now.
    ///   - log: is told what runs and what it said.
    /// - Throws: `ResizeError`, which says what state the filesystem is in; `tooSmall` names the least that its tool
    ///   would do.
    @discardableResult
    package static func shrink(
        _ filesystem: FilesystemInfo, to byteCount: UInt64, on place: ResizePlace,
        log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) -> Outcome {
        if let obstacle = filesystem.resizeAbility.shrinkObstacle { throw ResizeError(.unsupported(reason: obstacle)) }
        return try resize(filesystem, by: try tool(for: filesystem), on: place, atMost: byteCount, log) {
            tool, job, before throws(ResizeError) in
            // Nothing to do, and never larger.
            guard before > byteCount else { return }
            try tool.shrink(job, to: byteCount)
        }
    }

    /// Why a filesystem cannot be made smaller on this machine, as a sentence part: a program that is missing, no loop
    /// devices; `nil` where nothing is known to be in the way.
    package static func toolObstacle(toShrink filesystem: FilesystemInfo) -> String? {
        guard let tool = ResizeTools.tool(for: filesystem) else { return "no tool is known for it" }
        if let missing = tool.programs.first(where: { !ChildProcess.canFind($0) }) {
            return "`\(missing)` is not installed (Debian package \(tool.package))"
        }
        return Files.mayWrite("/dev/loop-control") ? nil : "loop devices, which that needs, cannot be made here"
    }

    private static func tool(for filesystem: FilesystemInfo) throws(ResizeError) -> any ResizeTool {
        guard let tool = ResizeTools.tool(for: filesystem) else {
            throw ResizeError(.unsupported(reason: "no tool is known for \(filesystem.kindName)"))
        }
        return tool
    }

    /// Does the work that is common to all: reach it, measure it, let `body` work, measure it again.
    static func resize(
        _ filesystem: FilesystemInfo, by tool: any ResizeTool, on place: ResizePlace, atMost limit: UInt64?,
        _ log: @escaping (String) -> Void,
        _ body: (any ResizeTool, ResizeJob, _ before: UInt64) throws(ResizeError) -> Void
    ) throws(ResizeError) -> Outcome {
        try place.checkIsFree()
        try place.synchronise()
        guard let before = try length(tool, place) else {
            throw ResizeError(.unsupported(reason: "there is no \(filesystem.kindName) in its place"))
        }
        try withNode(of: place) { node throws(ResizeError) in
            let job = ResizeJob(
                node: node, filesystem: filesystem, package: tool.package, checkCommand: tool.checkCommand, log: log)
            do throws(ResizeError) { try body(tool, job, before) } catch {
                throw afterFailure(error, tool, job, place, before)
            }
            // No tool is taken at its word. Of one that had nothing to do, the state is that of the capture.
            guard !job.begun.isTrue || tool.isWhole(job) else {
                throw ResizeError(
                    .resizeFailed(
                        tool: tool.programs.last ?? tool.package, ending: "it said that it succeeded",
                        lastWords: "`\(tool.checkCommand)` finds damage"),
                    state: job.inDoubt)
            }
        }
        let after: UInt64?
        do throws(ResizeError) {
            try place.synchronise()
            after = try length(tool, place)
        } catch {
            throw ResizeError(error.problem, state: .inDoubt(check: tool.checkCommand))
        }
        let room = try place.slice().byteCount
        guard let after, after <= min(limit ?? room, room) else {
            let words = after.map { "its superblock says \($0) bytes" } ?? "its superblock makes no sense"
            throw ResizeError(
                .resizeFailed(tool: tool.package, ending: "it said that it succeeded", lastWords: words),
                state: .inDoubt(check: tool.checkCommand))
        }
        return Outcome(byteCount: after, remarks: after == before ? [] : tool.remarks)
    }

    /// A change that failed may have left everything as it was: where it had not begun, or where its check says so, and the
    /// superblock its length.
    private static func afterFailure(
        _ error: ResizeError, _ tool: any ResizeTool, _ job: ResizeJob, _ place: ResizePlace, _ before: UInt64
    ) -> ResizeError {
        guard job.begun.isTrue else { return ResizeError(error.problem) }
        let inDoubt = ResizeError(error.problem, state: job.inDoubt)
        guard tool.isWhole(job) else { return inDoubt }
        // The programs wrote through another node than the one that is read here.
        try? place.synchronise()
        guard let now = (try? length(tool, place)) ?? nil else { return inDoubt }
        return ResizeError(error.problem, state: now == before ? .asBefore : .whole(byteCount: now))
    }

    private static func length(_ tool: any ResizeTool, _ place: ResizePlace) throws(ResizeError) -> UInt64? {
        let slice = try place.slice()
        do { return try tool.byteCount(on: slice) } catch { throw ResizeError(.inputOutput(error)) }
    }

    static func withNode(
        of place: ResizePlace, _ body: (String) throws(ResizeError) -> Void
    ) throws(ResizeError) {
        switch place {
        case .device(let path): try body(path.string)
        case .part(let disk, let range, let sectorSize):
            let loop: LoopDevice
            do { loop = try LoopDevice(over: disk, range: range, sectorSize: sectorSize) } catch {
                throw ResizeError(.unreachable(error))
            }
            try body(loop.path.string)
            // The loop device flushes and goes with the end of this function.
            _ = consume loop
        }
    }
}
