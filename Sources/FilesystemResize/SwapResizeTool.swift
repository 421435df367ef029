// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// Linux swap, by mkswap: only its header is worth keeping, and it is rewritten with the same UUID and label.
struct SwapResizeTool: ResizeTool {
    let kinds: Set<FilesystemInfo.Kind> = [.swap]
    let package = "util-linux"
    let programs = ["mkswap"]
    let checkCommand = "blkid -p"
    private static let pageSize = 4096

    func grow(_ job: ResizeJob) throws(ResizeError) { try remake(job, []) }

    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        guard byteCount >= LeastSize.swap else {
            throw ResizeError(.tooSmall(requested: byteCount, leastByteCount: LeastSize.swap))
        }
        // mkswap(8): the size is in blocks of 1024 bytes.
        try remake(job, ["\(byteCount / UInt64(Self.pageSize) * UInt64(Self.pageSize / 1024))"])
    }

    private func remake(_ job: ResizeJob, _ size: [String]) throws(ResizeError) {
        let header = try job.superblock { volume throws(BlockIOError) in try self.header(on: volume) }
        guard let header else { throw ResizeError(.unsupported(reason: "there is no plain swap with 4 KiB pages")) }
        // union swap_header: nr_badpages at 1032.
        guard header.little(1032, byteCount: 4) == 0 else {
            throw ResizeError(.unsupported(reason: "a swap area with a list of bad pages keeps its size"))
        }
        let label = Array(Self.names(header).dropFirst(16).prefix { $0 != 0 })
        guard label.count < 16, let text = String(validating: label, as: UTF8.self) else {
            throw ResizeError(.unsupported(reason: "mkswap cannot write the label of this swap area again"))
        }
        let identity = Array(Self.names(header).prefix(16))
        let uuid = identity.contains { $0 != 0 } ? SuperblockFields(bytes: identity).uuid(0) : "clear"
        try job.change(
            ["mkswap", "-p", "\(Self.pageSize)", "-U", uuid] + (text.isEmpty ? [] : ["-L", text]) + [job.node] + size)
        let after = try job.superblock { volume throws(BlockIOError) in try self.header(on: volume) }
        guard let after, Self.names(after) == Self.names(header) else {
            throw ResizeError(
                .resizeFailed(tool: "mkswap", ending: "it reported success", lastWords: "the UUID differs"),
                state: job.inDoubt)
        }
    }

    func isWhole(_ job: ResizeJob) -> Bool {
        ((try? job.superblock { volume throws(BlockIOError) in try self.header(on: volume) }) ?? nil) != nil
    }

    /// sws_uuid and sws_volume.
    private static func names(_ header: SuperblockFields) -> [UInt8] { Array(header.bytes[1036..<1068]) }

    /// Kernel, `include/linux/swap.h`, union swap_header: version at 1024, last_page at 1028, sws_uuid at 1036,
    /// sws_volume at 1052, the signature in the last ten bytes of the page.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64? {
        try header(on: volume).flatMap { ($0.little(1028, byteCount: 4) + 1).times(UInt64(Self.pageSize)) }
    }

    private func header(on volume: any BlockReader) throws(BlockIOError) -> SuperblockFields? {
        let fields = SuperblockFields(bytes: try volume.readBytes(at: 0, count: Self.pageSize))
        let isPlain = fields.has("SWAPSPACE2".utf8, at: Self.pageSize - 10) && fields.little(1024, byteCount: 4) == 1
        return isPlain ? fields : nil
    }
}
