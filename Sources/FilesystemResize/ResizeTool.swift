// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// How one kind of filesystem is resized: by which programs, and how its superblock tells what came of it.
protocol ResizeTool: Sendable {
    /// The kinds that it resizes.
    var kinds: Set<FilesystemInfo.Kind> { get }
    /// Of kinds that Reforge only knows by name (`Kind.other`): libblkid's names of those that it resizes.
    var otherNames: Set<String> { get }
    /// The Debian package of its programs.
    var package: String { get }
    /// Its programs, as they are started.
    var programs: [String] { get }
    /// The command that tells whether a filesystem that was left half changed is whole.
    var checkCommand: String { get }

    /// The filesystem's length in bytes by its superblock, and no more than a few fields of it; `nil` where there is none
    /// that makes sense. What it needs behind that length counts in.
    func byteCount(on volume: any BlockReader) throws(BlockIOError) -> UInt64?
    /// Makes it fill the device.
    func grow(_ job: ResizeJob) throws(ResizeError)
    /// Makes it end at `byteCount` or before.
    func shrink(_ job: ResizeJob, to byteCount: UInt64) throws(ResizeError)
    /// Whether a change, done or failed, has left it whole, by a check that writes nothing; `false` where that is not
    /// known.
    func isWhole(_ job: ResizeJob) -> Bool
    /// What a person should know after a resize.
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
