// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension RestoreScratch {
    /// The folder for the scratch of a restore: the requested one, else beside the image, else with the temporary
    /// files.
    ///
    /// Data of an encrypted image is written to a disk only on request, otherwise to memory.
    /// - Parameters:
    ///   - asked: the requested folder.
    ///   - image: the file or the repository; `nil` for a stream.
    ///   - memory: a folder in memory.
    /// - Throws: `ImagingError.noRoom` if an encrypted image has no folder in memory.
    package static func folder(
        _ asked: FilePath?, image: FilePath?, isEncrypted: Bool, memory: FilePath? = Files.memoryFolder
    ) throws(ImagingError) -> FilePath {
        if let asked { return asked }
        if isEncrypted {
            if let memory { return memory }
            throw .noRoom(
                "making filesystems fit takes a scratch for a while, the image is encrypted, and this machine has no folder in "
                    + "memory: name a folder with --scratch. The data is not encrypted while it is there")
        }
        guard let image else { return Files.temporaryFolder }
        let folder = image.removingLastComponent()
        let beside = folder.isEmpty ? "." : folder
        return Files.mayWrite(beside) ? beside : Files.temporaryFolder
    }
}
