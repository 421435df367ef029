// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Answers requests about the volumes of some disks: inside the appliance, or on the medium in a thread of the command.
package final class Agent {
    private let channel: AgentChannel
    private let volumes: any AgentVolumes
    private var roots: [TreeNode] = []

    /// - Parameter volumes: finds and mounts the volumes.
    package init(_ channel: AgentChannel, volumes: any AgentVolumes) {
        self.channel = channel
        self.volumes = volumes
    }

    deinit {
        // Before the volumes: a held folder keeps its mount, and LVM and LUKS below it would stay active.
        roots = []
    }

    /// Answers until the host closes the stream.
    /// - Throws: only if the stream breaks: an error of a request is its answer.
    package func run() throws(ApplianceError) {
        try send(.hello(kernel: Files.text("/proc/sys/kernel/osrelease") ?? "unknown"))
        while let frame = try channel.receive() {
            let request = try AgentRequest(frame)
            do throws(AgentFailure) {
                try answer(request)
            } catch {
                switch error {
                case .request(let code, let text): try send(.failed(code: code, text: text))
                case .stream(let error): throw error
                }
            }
        }
    }

    private func send(_ reply: AgentReply) throws(ApplianceError) { try channel.send(reply.frame) }

    private func sendPieces(_ bytes: [UInt8]) throws(ApplianceError) {
        for start in stride(from: 0, to: bytes.count, by: AgentReply.pieceByteCount) {
            let piece = Array(bytes[start..<min(start + AgentReply.pieceByteCount, bytes.count)])
            try send(.data(offset: UInt64(start), piece))
        }
    }

    private func answer(_ request: AgentRequest) throws(AgentFailure) {
        do throws(ApplianceError) {
            switch request {
            case .keys(let keys):
                volumes.keys = keys
                try send(.done)
            case .volumes: try send(.volumes(volumes.all()))
            case .mount(let volume, let subvolume):
                let folder: FilePath
                do { folder = try volumes.mount(volume, subvolume) } catch { throw .failed("\(error)") }
                do { roots.append(try TreeNode.root(folder)) } catch {
                    throw .system(SystemCallError("open", folder.string, error))
                }
                try send(.mounted(UInt32(clamping: roots.count - 1)))
            case .walk(let walk):
                guard roots.indices.contains(Int(walk.mount)) else { throw .notFound("there is no such mount") }
                let start: TreeNode
                do { start = try roots[Int(walk.mount)].resolve(walk.path, followsLast: walk.followsLast) } catch {
                    try send(.failed(code: error.rawValue, text: error.readingSentence))
                    return
                }
                let walker = AgentWalker(walk, kernelErrors: volumes.kernelErrors) { reply throws(ApplianceError) in
                    try self.send(reply)
                }
                try walker.visit(start)
                try send(.done)
            case .doctor(let disk, let question):
                try sendPieces(try volumes.diagnose(disk, question))
                try send(.done)
            case .repair(let disk, let question):
                // A broken stream is seen by the next answer.
                let answer = try volumes.repair(disk, question) { text in try? self.send(.log(text)) }
                try sendPieces(answer)
                try send(.done)
            }
        } catch {
            switch error {
            case .system(let failure) where failure.action == "write to": throw .stream(error)
            case .untrusted, .machine, .cancelled: throw .stream(error)
            default: throw .request(code: 0, text: "\(error)")
            }
        }
    }
}

private enum AgentFailure: Error {
    case request(code: Int32, text: String)
    case stream(ApplianceError)
}

/// Finds and mounts volumes for the agent.
package protocol AgentVolumes: AnyObject {
    /// Keys of LUKS volumes.
    var keys: [[UInt8]] { get set }
    func all() -> [AgentVolume]
    /// The errors that the kernel has logged since the last call, about any of the volumes.
    func kernelErrors() -> [String]
    /// - Returns: where the volume is mounted.
    func mount(_ id: UInt32, _ subvolume: AgentSubvolume) throws(ApplianceError) -> FilePath
    /// - Parameters:
    ///   - disk: its position in the session's list.
    ///   - question: a `DoctorQuestion` as JSON.
    /// - Returns: a `DoctorReport` as JSON.
    func diagnose(_ disk: UInt32, _ question: [UInt8]) throws(ApplianceError) -> [UInt8]
    /// - Parameters:
    ///   - disk: its position in the session's list.
    ///   - question: a `DoctorQuestion` as JSON.
    ///   - log: receives what is done.
    /// - Returns: a `RepairAnswer` as JSON.
    /// - Throws: only if nothing was changed; always where disks are only read.
    func repair(_ disk: UInt32, _ question: [UInt8], log: (String) -> Void) throws(ApplianceError) -> [UInt8]
}

extension AgentVolumes {
    package func repair(
        _ disk: UInt32, _ question: [UInt8], log: (String) -> Void
    ) throws(ApplianceError) -> [UInt8] {
        throw .refused("disks are only read here")
    }
}

/// Folders in place of volumes, for tests: each is one volume.
package final class FolderVolumes: AgentVolumes {
    package var keys: [[UInt8]] = []
    private let folders: [FilePath]

    package init(_ folders: [FilePath]) { self.folders = folders }

    package func all() -> [AgentVolume] {
        folders.indices.map { index in
            var volume = AgentVolume(id: UInt32(index), disk: 0, partition: UInt32(index + 1), byteCount: 0)
            volume.kindName = "ext4"
            return volume
        }
    }

    package func kernelErrors() -> [String] { [] }

    package func mount(_ id: UInt32, _ subvolume: AgentSubvolume) throws(ApplianceError) -> FilePath {
        guard folders.indices.contains(Int(id)) else { throw .notFound("there is no such volume") }
        return folders[Int(id)]
    }

    package func diagnose(_ disk: UInt32, _ question: [UInt8]) throws(ApplianceError) -> [UInt8] {
        throw .refused("a folder is no disk")
    }
}

extension Errno {
    /// The reason for a failed read of a file in an image.
    var readingSentence: String {
        switch self {
        case .ioError: "its data cannot be read: it is damaged, or the image has no data there (EIO)"
        case .noSuchFileOrDirectory: "it does not exist"
        case .notDirectory: "a part of the path is no folder"
        case .notSupported: "its filesystem cannot read it (EOPNOTSUPP)"
        default: sentence
        }
    }
}
