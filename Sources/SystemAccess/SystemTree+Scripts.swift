// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

extension SystemTree {
    /// Runs a program that is not of the tree, confined in it like the tree's own. It lies in the private /dev while it
    /// runs, so that nothing of it stays in the tree.
    /// - Parameters:
    ///   - script: the program's bytes.
    ///   - name: its name, without slashes.
    ///   - input: its standard input.
    ///   - timeoutSeconds: the time limit, after which it is killed.
    package func run(
        script: [UInt8], named name: String, input: [UInt8], timeoutSeconds: Double
    ) throws(SystemCallError) -> ChildProcess.Output {
        guard let devices = confinement?.devices, !name.contains("/"), name != ".", name != ".." else {
            throw SystemCallError("run", name, .invalidArgument)
        }
        let folder = devices.appending("reforge")
        let place = folder.appending(name)
        try Files.makeFolders(folder)
        defer {
            try? Files.remove(place)
            try? Files.removeFolder(folder)
        }
        try Files.write(script, to: place, permissions: [.ownerReadWriteExecute])
        // Independent of the umask.
        try Files.setPermissions(place, [.ownerReadWriteExecute])
        return try run(["/dev/reforge/\(name)"], input: input, timeoutSeconds: timeoutSeconds)
    }
}
