// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// BitLocker volumes opened by cryptsetup, for reading only. The opened one is another volume of the machine, until it
/// is closed or the machine ends.
enum OpenedBitLocker {
    /// libblkid's name of the type.
    static let type = "BitLocker"
    /// cryptsetup(8), "RETURN CODES": no permission (bad passphrase).
    private static let wrongKeyStatus: Int32 = 2

    private static func name(_ volume: BlockVolume) -> String { "bitlocker-\(volume.node)" }

    /// The node of the decrypted volume; `nil` while it is closed.
    static func node(of volume: BlockVolume) -> FilePath? {
        MappedDevice.all().first { $0.name == name(volume) }?.path
    }

    /// Opens a volume.
    /// - Returns: the node of the decrypted volume.
    /// - Throws: status 77 for a wrong key, 74 otherwise.
    static func open(_ volume: BlockVolume, _ key: BitLockerKey) throws(JobFailure) -> FilePath {
        if let node = node(of: volume) { return node }
        let output: ChildProcess.Output
        do {
            // Without a terminal it reads the key from the first line. Its key derivation takes seconds.
            output = try ChildProcess.run(
                ["cryptsetup", "open", "--type", "bitlk", "--readonly", "--disable-locks", volume.path, name(volume)],
                input: Array((key.text + "\n").utf8), timeoutSeconds: 600)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        guard output.succeeded, let node = node(of: volume) else {
            // 2.6 ends with 1 and says nothing; with any other error it says something.
            if output.ending == .exited(wrongKeyStatus) || output.ending == .exited(1) && output.lastWords.isEmpty {
                throw JobFailure(.refused, "This recovery key does not open \(volume.path).")
            }
            throw JobFailure(
                .ioError, "cryptsetup could not open \(volume.path) (\(output.ending)): \(output.lastWords.printable)")
        }
        return node
    }

    /// Closes a volume that is open.
    static func close(_ volume: BlockVolume) throws(JobFailure) {
        guard node(of: volume) != nil else { return }
        let output: ChildProcess.Output
        do {
            output = try ChildProcess.run(
                ["cryptsetup", "close", "--disable-locks", name(volume)], timeoutSeconds: 60)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        guard output.succeeded else {
            throw JobFailure(.ioError, "\(volume.path) could not be closed: \(output.lastWords.printable)")
        }
    }
}
