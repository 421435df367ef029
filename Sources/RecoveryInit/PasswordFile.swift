// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The password of an encrypted image or repository, or the key of LUKS volumes, in a file for the commands, removed
/// with this object. In memory only, and readable only for its owner: /run is a tmpfs, and there is no swap.
final class PasswordFile {
    /// The file.
    let path: FilePath
    /// The longest password, in bytes.
    private static let limit = 1 << 16

    /// Reads it from the location in the settings: a volume (also the medium's), or an address.
    /// - Parameter name: the name of the file.
    convenience init(
        _ location: ImageAddress, as name: String = "password", _ machine: MachineView,
        _ say: @escaping (String) -> Void
    ) throws(JobFailure) {
        let bytes: [UInt8]
        switch location {
        case .volume(let name, let path):
            let volume = try machine.waitForVolume(name)
            let mounted = try OpenedVolume(volume)
            bytes = try Self.read(path, on: mounted)
        case .http(let address):
            try machine.bringUpNetwork()
            bytes = try Self.fetch(address)
        case .stream, .path, .snapshot: throw JobFailure(.usage, "\(location) names no volume.")
        }
        guard bytes.count <= Self.limit else {
            throw JobFailure(.usage, "\(location) has more than \(Self.limit) bytes: that is no \(name).")
        }
        try self.init(bytes, as: name)
    }

    /// Keeps a password or key.
    init(
        _ bytes: [UInt8], as name: String = "password", in folder: FilePath = RecoveryPaths.secrets
    ) throws(JobFailure) {
        path = folder.appending(name)
        guard !bytes.isEmpty else { throw JobFailure(.usage, "The file with the \(name) is empty.") }
        do {
            try Files.makeFolders(folder)
            try Files.setPermissions(folder, [.ownerReadWriteExecute])
            try Files.write(bytes, to: path, permissions: [.ownerReadWrite])
        } catch {
            throw JobFailure(.cannotCreate, "\(error)")
        }
    }

    deinit { try? Files.remove(path) }

    private static func read(_ path: String, on mounted: borrowing OpenedVolume) throws(JobFailure) -> [UInt8] {
        // For its message if the file is missing.
        _ = try mounted.resolve(path)
        do {
            let root = try AnchoredFolder(mounted.folder)
            return try root.read(path, limit: limit + 1)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
    }

    private static func fetch(_ address: String) throws(JobFailure) -> [UInt8] {
        try? Files.remove(RecoveryPaths.httpHeaders)
        let output: ChildProcess.Output
        do {
            output = try ChildProcess.run(
                HTTPStream.arguments(for: address, headers: RecoveryPaths.httpHeaders) + ["--max-time", "120"],
                timeoutSeconds: 150)
        } catch {
            throw JobFailure(.ioError, "\(error)")
        }
        let header = (try? Files.read(RecoveryPaths.httpHeaders, limit: 1 << 16)) ?? []
        let code = HTTPStream.statusCode(header: String(decoding: header, as: UTF8.self))
        if let failure = HTTPStream.failure(output.ending, statusCode: code, address: address) { throw failure }
        guard output.succeeded, code == 200 else {
            throw JobFailure(.ioError, "\(address): the password could not be fetched")
        }
        return output.standardOutput
    }
}
