// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// How one kind of filesystem is resized: its programs, and how its superblock shows the result.
protocol ResizeTool: Sendable {
    /// The supported kinds.
    var kinds: Set<FilesystemInfo.Kind> { get }
    /// For kinds that Reforge knows only by name (`Kind.other`): the supported libblkid names.
    var otherNames: Set<String> { get }
    /// The Debian package of its programs.
    var package: String { get }
    /// Its programs, as used in commands.
    var programs: [String] { get }
    /// The command that checks a half-changed filesystem.
    var checkCommand: String { get }

    /// The filesystem's length in bytes according to a few fields of its superblock; `nil` without a valid superblock.
    /// Includes the space that it needs behind that length.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64?
    /// Grows it to fill the device.
    func grow(_ job: ResizeJob) throws(ResizeError)
    /// Shrinks it to end at `byteCount` or before.
    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError)
    /// Whether a change, done or failed, has left it whole, by a check that writes nothing;
    /// `false` if that is unknown.
    func isWhole(_ job: ResizeJob) -> Bool
    /// Remarks for the user after a resize.
    var remarks: [String] { get }
}

extension ResizeTool {
    var otherNames: Set<String> { [] }
    var remarks: [String] { [] }
    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError) {
        throw ResizeError(.unsupported(reason: "\(job.filesystem.kindName) cannot be made smaller"))
    }
}

/// The table of filesystems that can be resized.
enum ResizeTools {
    static let table = Registry<any ResizeTool>([
        ExtResizeTool(), NTFSResizeTool(), XFSResizeTool(), BtrfsResizeTool(), F2FSResizeTool(), SwapResizeTool(),
    ])

    static func tool(for filesystem: FilesystemInfo) -> (any ResizeTool)? {
        table.rows.first {
            filesystem.kind == .other
                ? $0.otherNames.contains(filesystem.kindName) : $0.kinds.contains(filesystem.kind)
        }
    }
}
