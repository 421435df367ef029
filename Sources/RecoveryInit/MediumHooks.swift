// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// The programs in `hooks` on the REFORGE volume, copied into memory for the jobs of its settings: the volume is not
/// mounted while they run. Only the volume that carries this build's id counts, as for its settings.
enum MediumHooks {
    static let folderName = "hooks"
    private static let most = 64
    private static let longest = 1 << 20

    /// Copies them.
    /// - Parameter folder: where the copies go; its contents are replaced.
    /// - Returns: their paths, in the order of their names; empty if there are none.
    /// - Throws: status 64 for a hook that cannot run, 74 if one cannot be read.
    static func copied(
        from volume: borrowing AnchoredFolder, to folder: FilePath = RecoveryPaths.hooks
    ) throws(JobFailure) -> [String] {
        guard volume.kind(of: folderName) == .folder else { return [] }
        // FAT and exFAT keep files of other systems beside them.
        let names = volume.names(in: folderName, atMost: most * 4).filter { !$0.hasPrefix(".") }
        guard names.count <= most else { throw JobFailure(.usage, "\(folderName) has more than \(most) files") }
        do throws(SystemCallError) {
            try Files.makeFolders(folder)
            try Files.setPermissions(folder, [.ownerReadWriteExecute])
            for name in Files.names(in: folder) { try Files.remove(folder.appending(name)) }
        } catch { throw JobFailure(.cannotCreate, "\(error)") }
        var paths: [String] = []
        for name in names {
            let inner = "\(folderName)/\(name)"
            guard volume.kind(of: inner) == .file else {
                throw JobFailure(.usage, "\(inner.printable) on the medium is no file")
            }
            let path = folder.appending(name)
            do throws(SystemCallError) {
                try Files.write(
                    try volume.readWhole(inner, limit: longest), to: path, permissions: [.ownerReadWriteExecute])
            } catch {
                throw JobFailure(
                    error.errno == .fileTooLarge ? .usage : .ioError, "\(inner.printable) on the medium: \(error)")
            }
            paths.append(path.string)
        }
        return paths
    }
}
