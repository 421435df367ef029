// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

extension JobRunner {
    /// How the disk of an image starts, by `reforge inspect`; `nil` if that is not known before the restore: the image is
    /// elsewhere, or cannot be read.
    func boot(of image: ImageAddress, password: FilePath?) -> InspectedImage? {
        guard case .volume(let name, let path) = image, let volume = try? machine.waitForVolume(name),
            let mounted = try? OpenedVolume(volume), let file = try? mounted.resolveImage(path),
            let output = try? ChildProcess.run(
                [RecoveryPaths.program, "inspect", file, "--json"]
                    + (password.map { ["--password-file", $0.string] } ?? []), timeoutSeconds: 600),
            output.succeeded
        else { return nil }
        return InspectedImage(json: output.standardOutput)
    }
}
