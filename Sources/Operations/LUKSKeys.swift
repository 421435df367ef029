// SPDX-License-Identifier: GPL-3.0-or-later
import Filesystems
import JobModel
import LinuxSystem
import SystemPackage

/// The files with the keys of a job's LUKS volumes.
package struct LUKSKeys {
    /// The names as given by the user.
    package let names: [String]

    package init(_ names: [String]) { self.names = names }

    /// The files; each of them is readable.
    package func keyFiles() throws -> [FilePath] {
        try names.map { name in
            // cryptsetup takes "-" for standard input.
            guard name != "-" else { throw JobFailure(.usage, "--luks-key-file takes a file, not -") }
            let path = FilePath(name)
            do { _ = try OwnedDescriptor.open(path, .readOnly) } catch {
                throw JobFailure(.notFound, "the LUKS key cannot be read: \(error)")
            }
            return path
        }
    }

    /// Opens LUKS volumes in a survey; `nil` if no key was given.
    /// - Throws: if this machine cannot open LUKS volumes.
    package func unlocker() throws -> LUKSUnlocker? {
        guard !names.isEmpty else { return nil }
        let keyFiles = try keyFiles()
        if let obstacle = OpenedLUKS.obstacle() {
            throw JobFailure(
                .refused,
                "LUKS cannot be opened here: \(obstacle). The recovery medium has the tools; without --luks-key-file, LUKS is taken whole"
            )
        }
        return LUKSUnlocker(keyFiles: keyFiles)
    }
}

extension LUKSUnlocker {
    /// Refuses a survey in which the given keys opened nothing: a user who gave a key does not expect all sectors.
    package func check(_ disk: String) throws {
        if let problem {
            throw JobFailure(
                .refused,
                "a LUKS volume on \(disk) could not be opened: \(problem). Without --luks-key-file, LUKS is taken whole"
            )
        }
        if hasOpened { return }
        throw JobFailure(
            .refused,
            hasFound
                ? "no LUKS volume on \(disk) could be opened with the given key (--luks-key-file): the key is wrong, or the volume is of a kind that is always taken whole (see reforge inspect)"
                : "there is no LUKS volume on \(disk) that could be opened, but a key was given (--luks-key-file): if this is right, leave it out"
        )
    }
}
