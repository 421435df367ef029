// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

extension PasswordBytes {
    /// Reads a password from a file or a pipe; warns if other users can read the file.
    package static func read(_ file: String, _ events: any EventSink) throws -> [UInt8] {
        let path = FilePath(file)
        if let status = try? Stat(path), status.type == .regular,
            !status.permissions.isDisjoint(with: [.groupRead, .otherRead])
        {
            events.warn(
                "open-password-file",
                "the password file \(file) is readable by other users: chmod 600 keeps them out")
        }
        return try read(path)
    }
}
