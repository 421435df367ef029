// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension RestoreScratch {
    /// Where the scratch of a restore lies: as asked for, else beside the image, else with the temporary files.
    ///
    /// What an encrypted image holds is written to a disk only where that was asked for: otherwise to memory.
    /// - Parameters:
    ///   - asked: what was asked for.
    ///   - image: the file or the repository; `nil` for a stream.
    ///   - memory: a folder in memory.
    /// - Throws: `ImagingError.noRoom` where nothing but a disk is there for what was encrypted.
    package static func folder(
        _ asked: FilePath?, image: FilePath?, isEncrypted: Bool, memory: FilePath? = Files.memoryFolder
    ) throws(ImagingError) -> FilePath {
        if let asked { return asked }
        if isEncrypted {
            if let memory { return memory }
            throw .noRoom(
                "making filesystems fit takes a scratch for a while, the image is encrypted, and this machine has no folder in "
                    + "memory: name a folder with --scratch. What lies there for that while is not encrypted")
        }
        guard let image else { return Files.temporaryFolder }
        let folder = image.removingLastComponent()
        let beside = folder.isEmpty ? "." : folder
        return Files.mayWrite(beside) ? beside : Files.temporaryFolder
    }
}
