// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import JobModel
import LinuxSystem
import SystemPackage

/// The files of a source that is a folder of another tool, or in pieces: none of them may be overwritten by its copy.
struct SourceFiles: Sendable {
    private let nodes: [(device: UInt64, inode: UInt64)]

    /// - Parameter source: an image, its first piece, or a folder.
    init(of source: FilePath) {
        let isFolder = (try? Files.status(source))?.isFolder ?? false
        let files =
            isFolder
            ? ((try? Files.allNames(in: source)) ?? []).map { source.appending($0) }
            : (try? PieceStream.find(from: source))?.pieces ?? [source]
        nodes = files.compactMap { file in
            (try? Stat(file)).map { (UInt64($0.deviceID.rawValue), UInt64($0.inode.rawValue)) }
        }
    }

    func contains(device: UInt64, inode: UInt64) -> Bool {
        nodes.contains { $0.device == device && $0.inode == inode }
    }

    /// Refuses a destination that is one of the files.
    func refuse(_ destination: FilePath, of source: String) throws {
        guard let status = try? Stat(destination),
            contains(device: UInt64(status.deviceID.rawValue), inode: UInt64(status.inode.rawValue))
        else { return }
        throw JobFailure(.refused, "\(destination) belongs to \(source), which is read: choose another name")
    }
}
