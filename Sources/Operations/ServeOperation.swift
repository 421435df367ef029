// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// What a started server tells: as JSON, the fields of `reforge serve --json`.
package struct ServeReport: Encodable {
    package let schema = 1
    package var uri: String
    package var source: String
    package var byteCount: UInt64
    package var logicalSectorSize: Int
    /// The id of an image or a snapshot.
    package var imageID: String?

    private enum CodingKeys: String, CodingKey { case schema, uri, source, byteCount, logicalSectorSize, imageID }
}

/// Serves a disk, an image or a snapshot by NBD until the job is interrupted, which is its normal end.
package final class ServeOperation {
    private let job: ServeJob
    private let keys: KeyRing
    private let events: any EventSink
    private var cancellation: Cancellation { keys.cancellation }

    package init(_ job: ServeJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// Serves.
    /// - Parameter started: receives the address as soon as clients can connect.
    /// - Returns: `done`, or the status for a source of which a part could not be read.
    package func run(started: (ServeReport) throws -> Void) throws -> ExitStatus {
        try events.reporting("serve", cancellation, outcome: { Outcome($0) }) {
            let source = try ServedSource.open(job.source, keys)
            try keys.refuseUnused(job.source)
            for text in source.header.manifest.holes(source.unreadable).map(Self.text) {
                events.warn("unreadable", "\(job.source): \(text)")
            }
            let place = try ServePlace(job.place)
            let server = try place.serve(source.disk)
            defer { withExtendedLifetime(place) { server.stop() } }
            try started(
                ServeReport(
                    uri: server.uri, source: source.text, byteCount: source.disk.byteCount,
                    logicalSectorSize: source.disk.logicalSectorSize, imageID: source.imageID?.description))
            waitForEnd(server)
            server.stop()
            guard !cancellation.isLoss else { throw JobFailure(.ioError, cancellation.name) }
            try source.checkHeldStill()
            guard server.failure != nil else { return .done }
            return source.damage.map { JobFailure($0, cancellation: cancellation).status } ?? .ioError
        }
    }

    /// Waits for the signal, and says it once if a client met something unreadable: it gets only an error number.
    private func waitForEnd(_ server: NBDServer) {
        var isSaid = false
        while !cancellation.isRequested {
            if !isSaid, let failure = server.failure {
                events.warn("unreadable", "a client's read failed: \(failure)")
                isSaid = true
            }
            SystemFacts.sleep(seconds: 0.5, unless: cancellation)
        }
        if !isSaid, let failure = server.failure { events.warn("unreadable", "a client's read failed: \(failure)") }
    }

    static func text(_ hole: Manifest.Hole) -> String {
        let place = hole.partition.map { "partition \($0)" } ?? "the space outside of partitions"
        return
            "\(place) has \(ByteText.exact(hole.byteCount)) that could not be read when it was captured, the first at "
            + "byte \(hole.firstOffset) of the disk: reading them fails"
    }
}

/// The place of a server: a socket, perhaps in a folder of its own, or a port.
private struct ServePlace {
    private let address: NBDServer.Address
    /// Removed with this object, or by the next command if this one is killed.
    private let folder: PrivateFolder?

    init(_ place: ServeJob.Place) throws {
        switch place {
        case .privateFolder:
            let folder = try PrivateFolder()
            self.folder = folder
            address = .unix(folder.path.appending("nbd.sock"))
        case .socket(let text):
            let path = FilePath(text)
            let parent = path.removingLastComponent()
            // A client may run in another folder.
            guard let name = path.lastComponent, let real = Files.realFolder(parent) else {
                throw JobFailure(
                    .cannotCreate,
                    "the folder of the socket \(text) does not exist, or its name is not valid UTF-8: choose another")
            }
            folder = nil
            address = .unix(real.appending(name))
        case .loopback(let port):
            folder = nil
            address = .loopback(port: port)
        }
    }

    func serve(_ disk: any ServedDisk) throws -> NBDServer {
        do throws(SystemCallError) { return try NBDServer(disk, at: address) } catch {
            let wayOut =
                switch error.errno {
                case .addressInUse: "another server listens there: end it, or choose another place"
                case .fileExists: "it is no socket, and stays: choose another path"
                case .fileNameTooLong: "a socket's path has at most 107 bytes: choose a shorter one"
                default: error.errno.sentence
                }
            let isRefused = error.errno == .addressInUse || error.errno == .fileExists
            throw JobFailure(
                isRefused ? .refused : .cannotCreate, "could not \(error.action) \(error.subject): \(wayOut)")
        }
    }
}
