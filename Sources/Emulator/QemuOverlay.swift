// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A qcow2 file with only what was written over a base, which it does not know where to find.
package enum QemuOverlay {
    /// The base that the file names. It does not exist: a program that opens the overlay without its base must fail
    /// instead of showing zeros in its place.
    package static let baseName = "reforge-base"

    /// Creates an overlay of `byteCount` bytes, which only this user can read: guests write secrets.
    /// - Throws: if the file exists.
    package static func create(_ path: FilePath, byteCount: UInt64) throws(EmulatorError) {
        try QemuProgram.image.require()
        let output: ChildProcess.Output
        do throws(SystemCallError) {
            // qemu-img would replace the overlay of another process that has taken the name meanwhile.
            try OwnedDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow], permissions: .ownerReadWrite
            ).close()
            output = try ChildProcess.run(
                [
                    QemuProgram.image.rawValue, "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b",
                    baseName, QemuText.plainPath(path), "\(byteCount)",
                ], timeoutSeconds: 600)
        } catch { throw .system(error) }
        guard output.succeeded else {
            try? Files.remove(path)
            throw .failed(program: QemuProgram.image.rawValue, why: output.lastWords)
        }
    }
}
