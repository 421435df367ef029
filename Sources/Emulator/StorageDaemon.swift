// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A `qemu-storage-daemon` that exports one disk, with its socket in a private folder. It ends with the object, and with
/// this process.
package final class StorageDaemon {
    package enum Export: Sendable {
        /// By NBD, read-only, on `socket`, under the name `disk`.
        case nbd
        /// As a file with the bytes of the disk. `mountPoint` must be an existing regular file.
        case fuse(mountPoint: FilePath, isWritable: Bool)
    }

    /// An open file that the daemon reads by its descriptor, so that no other file can take its place.
    package struct File: Sendable {
        package var descriptor: FileDescriptor
        /// The name in messages.
        package var name: String

        package init(_ descriptor: FileDescriptor, name: String) {
            self.descriptor = descriptor
            self.name = name
        }

        /// The `filename` of a `file` node.
        package var path: String { "/proc/self/fd/\(descriptor.rawValue)" }
    }

    /// The NBD socket.
    package let socket: FilePath
    private let folder: PrivateFolder
    private let program: AttachedProgram
    private let export: Export
    private let files: [File]
    private var isStopped = false
    /// The time limit for the start, in seconds: a damaged or hostile image must not keep a command waiting.
    private static let startSeconds = 120.0

    /// Starts the daemon and waits until its export can be used.
    /// - Parameters:
    ///   - nodes: JSON objects, one a `--blockdev`, each after the nodes it refers to. The last one has the node name
    ///     `disk`, and is exported.
    ///   - files: the files that nodes name by `File.path`.
    package init(
        nodes: [String], files: [File] = [], export: Export, cancellation: Cancellation
    ) throws(EmulatorError) {
        try QemuProgram.storageDaemon.require()
        self.export = export
        self.files = files
        let folder = try PrivateFolder()
        self.folder = folder
        socket = folder.path.appending("nbd")
        let ready = folder.path.appending("pid")
        var arguments = [QemuProgram.storageDaemon.rawValue, "--pidfile", ready.string]
        for node in nodes { arguments += ["--blockdev", node] }
        arguments += try Self.arguments(export, socket: socket)
        // SIGTERM, not SIGKILL: the daemon writes what it holds, and takes its mount away.
        program = try AttachedProgram(arguments, kept: files.map(\.descriptor), deathSignal: .terminate)
        // The pid file appears once all nodes and exports are made.
        let deadline = SystemFacts.monotonicSeconds() + Self.startSeconds
        while !Files.exists(ready) {
            if program.ending != nil { throw .failed(program: QemuProgram.storageDaemon.rawValue, why: message) }
            let isLate = SystemFacts.monotonicSeconds() > deadline
            if cancellation.isRequested || isLate {
                _ = program.end(withinSeconds: 2)
                guard isLate else { throw .cancelled }
                throw .failed(
                    program: QemuProgram.storageDaemon.rawValue,
                    why: "it was not ready within \(Int(Self.startSeconds)) seconds")
            }
            SystemFacts.sleep(seconds: 0.005)
        }
    }

    private static func arguments(_ export: Export, socket: FilePath) throws(EmulatorError) -> [String] {
        switch export {
        case .nbd:
            return [
                "--nbd-server", #"{"addr":{"type":"unix","path":\#(QemuText.json(socket.string))}}"#, "--export",
                #"{"type":"nbd","id":"export","node-name":"disk","name":"disk","writable":false}"#,
            ]
        case .fuse(let mountPoint, let isWritable):
            let program = QemuProgram.storageDaemon.rawValue
            guard ChildProcess.canFind("fusermount3") || SystemFacts.isRoot else {
                throw .missing(program: "fusermount3", package: "fuse3")
            }
            guard FilePath(mountPoint.string) == mountPoint else {
                throw .failed(program: program, why: "\(mountPoint) is not valid UTF-8: take another name")
            }
            return [
                "--export",
                #"{"type":"fuse","id":"export","node-name":"disk","mountpoint":\#(QemuText.json(mountPoint.string)),"#
                    + #""writable":\#(isWritable),"allow-other":"off"}"#,
            ]
        }
    }

    /// The message of a daemon that has ended by itself; `nil` while it runs.
    package var failure: String? { isStopped || program.ending == nil ? nil : message }

    /// Its output, with the names of the files in place of descriptors.
    private var message: String {
        let text = QemuText.message(program.lines, program: .storageDaemon, files: files)
        if !text.isEmpty { return text }
        return program.ending.map { "it ended without a message (\($0))" } ?? "it gave no message"
    }

    /// Ends the daemon, after it has written everything, and removes its folder.
    /// - Throws: if a writable disk was not closed cleanly.
    package func stop() throws(EmulatorError) {
        guard !isStopped else { return }
        let isWritable = if case .fuse(_, true) = export { true } else { false }
        let endedBefore = failure
        isStopped = true
        // What was written may have to reach a slow disk first.
        let ending = program.end(withinSeconds: isWritable ? 600 : 10)
        detach()
        guard isWritable, endedBefore != nil || ending != .exited(0) else { return }
        throw .failed(
            program: QemuProgram.storageDaemon.rawValue,
            why: "it did not end cleanly, so what was written may be incomplete: \(endedBefore ?? message)")
    }

    /// Detaches a mount of a daemon that was killed: every access to it fails with ENOTCONN.
    package static func detach(_ place: FilePath) {
        // Root needs no helper, and a system may have none.
        guard !SystemFacts.isRoot else {
            try? Mount.unmount(place, lazily: true)
            return
        }
        _ = try? ChildProcess.run(["fusermount3", "-u", "-z", place.string], timeoutSeconds: 10)
    }

    /// Detaches the mount if the daemon was killed.
    private func detach() {
        // The real path of a dead mount cannot be asked for.
        guard case .fuse(let mountPoint, _) = export, case let place = Files.realPath(mountPoint) ?? mountPoint,
            MountEntry.current().contains(where: { $0.mountPoint == place.string })
        else { return }
        Self.detach(place)
    }

    deinit { try? stop() }
}
