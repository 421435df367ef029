// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension AnchoredFolder {
    /// The real path of a file or folder inside. Links are resolved inside the folder.
    /// - Throws: if it cannot be opened, or its real path is not below this folder.
    package func realPath(of inner: String) throws(SystemCallError) -> FilePath {
        let descriptor = try open(inner, .readOnly)
        guard let real = Files.linkTarget(FilePath("/proc/self/fd/\(descriptor.raw.rawValue)")).map({ FilePath($0) }),
            real.starts(with: path)
        else { throw SystemCallError("find", "\(inner) below \(path)", .noSuchFileOrDirectory) }
        return real
    }
}
