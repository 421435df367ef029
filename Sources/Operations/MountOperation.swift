// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// Shows the disk of an image as a file of raw bytes, until it is interrupted or unmounted.
///
/// A storage daemon makes the file by FUSE, and reads the disk from an NBD server of this process: the host's kernel sees
/// no filesystem of the image unless the user mounts it.
package final class MountOperation {
    private let job: MountJob
    private let keys: KeyRing
    private let events: any EventSink
    private let ready: (MountReport) throws -> Void
    private var cancellation: Cancellation { keys.cancellation }

    /// - Parameters:
    ///   - keys: the job's passwords.
    ///   - ready: called once the file can be read.
    package init(
        _ job: MountJob, keys: KeyRing, events: any EventSink, ready: @escaping (MountReport) throws -> Void
    ) {
        (self.job, self.keys, self.events, self.ready) = (job, keys, events, ready)
        keys.allowsBacking = job.allowsBacking
    }

    /// Runs until the end is requested, which is the normal end.
    /// - Returns: `done`, or `badImage` or `ioError` if a part of the disk could not be read.
    package func run() throws -> ExitStatus {
        try events.reporting("mount", cancellation, outcome: { Outcome($0) }) { try mounted() }
    }

    private func mounted() throws -> ExitStatus {
        guard Files.exists("/dev/fuse") else {
            throw JobFailure(
                .cannotCreate,
                "this system has no FUSE (/dev/fuse is missing), so no disk can be shown as a file: load its module (modprobe "
                    + "fuse), or use `reforge serve`, which needs none")
        }
        try QemuProgram.storageDaemon.require()
        let place = try MountPoint(in: job.folder)
        let source = try ServedSource.open(job.image, keys)
        try keys.refuseUnused(job.image)
        for text in source.header.manifest.unreadableTexts(source.unreadable) {
            events.warn("unreadable", "\(job.image): \(text) in a restore; reading them here fails")
        }
        let folder = try PrivateFolder()
        let socket = folder.path.appending("disk")
        let server = try NBDServer(source.disk, at: .unix(socket))
        defer { withExtendedLifetime((folder, source, place)) { server.stop() } }
        let daemon = try StorageDaemon(
            nodes: [Self.node(socket)], export: .fuse(mountPoint: place.path, isWritable: false),
            cancellation: cancellation)
        defer { try? daemon.stop() }
        guard place.isMounted else {
            throw EmulatorError.failed(
                program: QemuProgram.storageDaemon.rawValue, why: daemon.failure ?? "\(place.path) is not mounted")
        }
        try ready(
            MountReport(
                image: job.image, imageID: source.imageID?.description, path: place.path,
                manifest: source.header.manifest))
        try wait(place, daemon, server)
        let uses = place.uses
        if !uses.isEmpty {
            events.warn(
                "still-in-use",
                "\(place.path) is still in use: \(uses.joined(separator: "; ")). It can no longer be read")
        }
        try daemon.stop()
        try source.checkHeldStill()
        guard server.failure != nil else { return .done }
        return source.damage.map { JobFailure($0, cancellation: cancellation).status } ?? .ioError
    }

    /// The disk of an NBD server, for a storage daemon.
    static func node(_ socket: FilePath) -> String {
        #"{"driver":"nbd","node-name":"disk","read-only":true,"export":"disk","#
            + #""server":{"type":"unix","path":\#(QemuText.json(socket.string))}}"#
    }

    /// Waits for a signal, or for an unmount by another program.
    private func wait(_ place: MountPoint, _ daemon: StorageDaemon, _ server: NBDServer) throws {
        var hasWarned = false
        func warnOnce() {
            guard !hasWarned, let failure = server.failure else { return }
            hasWarned = true
            events.warn("unreadable", "\(failure). Programs that read it get an error; other parts can be read")
        }
        // A read may have failed just before the end.
        defer { warnOnce() }
        while !cancellation.isRequested {
            if let why = daemon.failure {
                throw EmulatorError.failed(program: QemuProgram.storageDaemon.rawValue, why: "it ended: \(why)")
            }
            warnOnce()
            guard place.isMounted else { return events.log("\(place.path) was unmounted") }
            SystemFacts.sleep(seconds: 0.25, unless: cancellation)
        }
        // The loss of a disk is no normal end.
        if cancellation.isLoss { throw JobFailure(.ioError, cancellation.name) }
    }
}
