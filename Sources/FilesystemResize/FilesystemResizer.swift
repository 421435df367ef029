// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Changes the length of an unmounted filesystem with its own tool.
package enum FilesystemResizer {
    /// The result of a resize.
    package struct Outcome: Equatable, Sendable {
        /// The filesystem's new length in bytes, read back from its superblock.
        package var byteCount: UInt64
        /// Remarks for the user: that Windows will check it, …
        package var remarks: [String]
    }

    /// Grows a filesystem to fill its place.
    /// - Parameters:
    ///   - filesystem: the content of the place, as surveyed at its capture.
    ///   - place: its present place, including the room to fill.
    ///   - log: receives the commands and their output.
    /// - Throws: `ResizeError`, which names the state of the filesystem.
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

    /// Shrinks a filesystem to end at `byteCount` or up to a block (NTFS: a cluster and a sector) before.
    /// - Parameters:
    ///   - filesystem: the content of the place, as surveyed at its capture.
    ///   - byteCount: the remaining room in bytes.
    ///   - place: its present place.
    ///   - log: receives the commands and their output.
    /// - Throws: `ResizeError`, which names the state of the filesystem; `tooSmall` has the least
    ///   size that its tool accepts.
    @discardableResult
    package static func shrink(
        _ filesystem: FilesystemInfo, to byteCount: UInt64, on place: ResizePlace,
        log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) -> Outcome {
        if let obstacle = filesystem.resizeAbility.shrinkObstacle { throw ResizeError(.unsupported(reason: obstacle)) }
        return try resize(filesystem, by: try tool(for: filesystem), on: place, atMost: byteCount, log) {
            tool, job, before throws(ResizeError) in
            // It fits already; shrinking never makes it larger.
            guard before > byteCount else { return }
            try tool.shrink(job, to: byteCount)
        }
    }

    /// Why a filesystem cannot shrink on this machine, as a sentence part: a missing program, no loop devices; `nil`
    /// without a known obstacle.
    package static func toolObstacle(toShrink filesystem: FilesystemInfo) -> String? {
        guard let tool = ResizeTools.tool(for: filesystem) else { return "no tool is known for it" }
        if let missing = tool.programs.first(where: { !ChildProcess.canFind($0) }) {
            return "`\(missing)` is not installed (Debian package \(tool.package))"
        }
        return Files.mayWrite("/dev/loop-control") ? nil : "this needs loop devices, which cannot be created here"
    }

    private static func tool(for filesystem: FilesystemInfo) throws(ResizeError) -> any ResizeTool {
        guard let tool = ResizeTools.tool(for: filesystem) else {
            throw ResizeError(.unsupported(reason: "no tool is known for \(filesystem.kindName)"))
        }
        return tool
    }

    /// The steps common to all tools: open the place, measure, run `body`, measure again.
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
            // A tool's success is verified. If it had nothing to do, the state is that of the capture.
            guard !job.begun.isTrue || tool.isWhole(job) else {
                throw ResizeError(
                    .resizeFailed(
                        tool: tool.programs.last ?? tool.package, ending: "it reported success",
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
            let words = after.map { "its superblock says \($0) bytes" } ?? "its superblock is not valid"
            throw ResizeError(
                .resizeFailed(tool: tool.package, ending: "it reported success", lastWords: words),
                state: .inDoubt(check: tool.checkCommand))
        }
        return Outcome(byteCount: after, remarks: after == before ? [] : tool.remarks)
    }

    /// A failed change may have left the filesystem unchanged: if it had not begun, or if the check finds no error and
    /// the superblock has the old length.
    private static func afterFailure(
        _ error: ResizeError, _ tool: any ResizeTool, _ job: ResizeJob, _ place: ResizePlace, _ before: UInt64
    ) -> ResizeError {
        guard job.begun.isTrue else { return ResizeError(error.problem) }
        let inDoubt = ResizeError(error.problem, state: job.inDoubt)
        guard tool.isWhole(job) else { return inDoubt }
        // The programs wrote through another node than the one read here.
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
            // The loop device is flushed and released at the end of this function.
            _ = consume loop
        }
    }
}
