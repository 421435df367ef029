// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import LinuxSystem
import NBD
import SystemPackage

/// An agent that reads the volumes of some disks: in a virtual machine, or in this process on the medium. What it
/// answers is checked, as the machine reads untrusted filesystems and may have been taken over by one.
///
/// One request at a time; a walk ends before the next request is made.
package final class ApplianceSession {
    package struct Options: Sendable {
        package var memoryMiB = 768
        package var allowsKVM = true

        package init() {}
    }

    /// A mounted volume.
    package struct Mounted: Equatable, Sendable {
        package let volume: AgentVolume
        let number: UInt32
    }

    package let kernel: String
    private let channel: AgentChannel
    private let program: AttachedProgram?
    private let servers: [NBDServer]
    private let folder: PrivateFolder?
    private let thread: WorkerThread?
    private let diskCount: Int
    /// Whether the machine writes to its disk.
    let isWritable: Bool
    /// Disks of this kernel that show images.
    private var kernelDisks: [NetworkBlockDevice] = []
    /// Of the walk under way.
    private var check: WalkCheck?
    private var isClosed = false

    /// KVM that hangs is given up after this time.
    private static let kvmSeconds = 60.0
    private static let tcgSeconds = 600.0
    /// A kernel that a damaged filesystem has stopped never answers. A folder of millions of files, or some keys with
    /// Argon2, can take many minutes under emulation.
    private static let patienceSeconds = 3600.0
    /// Argon2 may need as much memory as the machine that chose its cost was willing to give: cryptsetup's default is
    /// at most 1 GiB.
    package static let memoryForLUKS = 2048
    /// For programs of the installed system, which build an initramfs.
    package static let memoryForRepair = 1024
    /// What was written may have to reach a slow disk first.
    private static let closingSeconds = 600.0

    /// Boots the medium with `disks`, read-only.
    /// - Parameter say: receives sentences about the start.
    package init(
        disks: [any ServedDisk], media: ApplianceMedia, options: Options = Options(), cancellation: Cancellation,
        say: (String) -> Void = { _ in }
    ) throws(ApplianceError) {
        let folder: PrivateFolder
        var servers: [NBDServer] = []
        var machines: [ApplianceMachine.Disk] = []
        do throws(EmulatorError) {
            try QemuProgram.system.require()
            folder = try PrivateFolder()
        } catch { throw .emulator(error) }
        do {
            for (number, disk) in disks.enumerated() {
                let socket = folder.path.appending("disk\(number)")
                servers.append(try NBDServer(disk, at: .unix(socket)))
                machines.append(.init(socket: socket, logicalSectorSize: disk.logicalSectorSize))
            }
            let started = try Self.start(media, options, machines, cancellation, say)
            (channel, program, kernel) = (started.channel, started.program, started.kernel)
        } catch {
            for server in servers { server.stop() }
            switch error {
            case let error as ApplianceError: throw error
            case let error as SystemCallError: throw .system(error)
            default: throw .machine("\(error)")
            }
        }
        (self.servers, self.folder, thread) = (servers, folder, nil)
        diskCount = disks.count
        isWritable = false
    }

    /// Boots the medium with one disk that it may write to. The file is complete after `finish`, and of no use without.
    /// - Parameter say: receives sentences about the start.
    package init(
        repairing disk: WritableDisk, media: ApplianceMedia, options: Options, cancellation: Cancellation,
        say: (String) -> Void
    ) throws(ApplianceError) {
        do { try QemuProgram.system.require() } catch { throw .emulator(error) }
        let started = try Self.start(media, options, [.init(disk)], cancellation, say)
        (channel, program, kernel) = (started.channel, started.program, started.kernel)
        (servers, folder, thread) = ([], nil, nil)
        diskCount = 1
        isWritable = true
    }

    /// An agent in this process, on block devices of this machine: only on the medium, whose kernel reads disks anyway.
    package init(local disks: [FilePath], cancellation: Cancellation) throws(ApplianceError) {
        let started = try Self.agent(on: disks, cancellation)
        (channel, thread, kernel) = (started.channel, started.thread, started.kernel)
        (servers, folder, program) = ([], nil, nil)
        diskCount = disks.count
        isWritable = false
    }

    /// An agent in this process, on images: only on the medium, whose kernel reads them as network block devices.
    package init(attaching disks: [any ServedDisk], cancellation: Cancellation) throws(ApplianceError) {
        let folder: PrivateFolder
        do { folder = try PrivateFolder() } catch { throw .emulator(error) }
        var servers: [NBDServer] = []
        var devices: [NetworkBlockDevice] = []
        do {
            DiskVolumes.loadModules(["nbd"])
            for (number, disk) in disks.enumerated() {
                let server = try NBDServer(disk, at: .unix(folder.path.appending("disk\(number)")))
                servers.append(server)
                devices.append(try server.kernelDisk(of: disk))
            }
            let started = try Self.agent(on: devices.map(\.path), cancellation)
            (channel, thread, kernel) = (started.channel, started.thread, started.kernel)
        } catch {
            devices = []
            for server in servers { server.stop() }
            switch error {
            case let error as ApplianceError: throw error
            case let error as SystemCallError: throw .system(error)
            default: throw .machine("the image could not be attached: \(error)")
            }
        }
        (self.servers, self.folder, program, kernelDisks) = (servers, folder, nil, devices)
        diskCount = disks.count
        isWritable = false
    }

    /// An agent in this process, on folders in place of volumes.
    package init(folders: [FilePath], cancellation: Cancellation) throws(ApplianceError) {
        let started = try Self.agent(cancellation) { FolderVolumes(folders) }
        (channel, thread, kernel) = (started.channel, started.thread, started.kernel)
        (servers, folder, program) = ([], nil, nil)
        diskCount = 0
        isWritable = false
    }

    /// An agent at the other end of a channel, for tests.
    init(peer: AgentChannel, isWritable: Bool = false) throws(ApplianceError) {
        (channel, thread, kernel) = (peer, nil, try Self.hello(peer, 10))
        (servers, folder, program) = ([], nil, nil)
        diskCount = 0
        self.isWritable = isWritable
    }

    deinit { close() }

    /// Ends a machine that has written, once its disk is closed.
    /// - Throws: if what was written may be incomplete.
    package func finish() throws(ApplianceError) {
        guard isWritable, !isClosed, let program else { throw .machine("there is no machine that has written") }
        let ending = program.end(withinSeconds: Self.closingSeconds)
        let lines = Self.lastWords(program.lines)
        close()
        guard ending == .exited(0) else {
            let why = ending.map { ": \($0)" } ?? ""
            throw .machine("the appliance did not close the disk (\(QemuProgram.system.rawValue)\(why)) \(lines)")
        }
    }

    /// Ends the machine. Disks that it only reads need no wait; a file that it may have changed is dropped.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        _ = program?.end(withinSeconds: 0.5)
        channel.end()
        thread?.join()
        // The agent's mounts are gone now, and the servers still answer.
        kernelDisks = []
        for server in servers { server.stop() }
    }

    /// The first failed read of the image: the agent gets only an error number.
    package var readFailure: BlockIOError? { servers.lazy.compactMap(\.failure).first }

    // MARK: Starting

    private struct Started {
        var channel: AgentChannel
        var kernel: String
        var program: AttachedProgram?
        var thread: WorkerThread?
    }

    private static func agent(on disks: [FilePath], _ cancellation: Cancellation) throws(ApplianceError) -> Started {
        let parent: FilePath = Files.exists("/run") ? "/run" : "/tmp"
        let place: FilePath
        do { place = try Files.makeTemporaryFolder("reforge-files", in: parent) } catch { throw .system(error) }
        return try agent(cancellation) { DiskVolumes(disks, folder: place) }
    }

    private static func agent(
        _ cancellation: Cancellation, _ volumes: @escaping @Sendable () -> any AgentVolumes
    ) throws(ApplianceError) -> Started {
        let thread: WorkerThread
        let channel: AgentChannel
        do {
            let pair = try OwnedDescriptor.socketPair()
            channel = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: cancellation)
            let end = pair.other
            thread = try WorkerThread {
                let agent = AgentChannel(OwnedDescriptor(owning: end), cancellation: Cancellation())
                // The end of the session closes the stream.
                try? Agent(agent, volumes: volumes()).run()
            }
        } catch { throw .system(error) }
        return Started(channel: channel, kernel: try hello(channel, 60), program: nil, thread: thread)
    }

    private static func start(
        _ media: ApplianceMedia, _ options: Options, _ disks: [ApplianceMachine.Disk], _ cancellation: Cancellation,
        _ say: (String) -> Void
    ) throws(ApplianceError) -> Started {
        if options.allowsKVM, ApplianceMachine.mayUseKVM {
            do {
                return try boot(media, options, disks, .kvm, kvmSeconds, cancellation)
            } catch {
                if case .cancelled = error { throw error }
                if case .untrusted = error { throw error }
                say("the appliance did not start with KVM (\(error)): starting it without, which is slower")
            }
        }
        return try boot(media, options, disks, .tcg, tcgSeconds, cancellation)
    }

    private static func boot(
        _ media: ApplianceMedia, _ options: Options, _ disks: [ApplianceMachine.Disk],
        _ accelerator: ApplianceMachine.Accelerator, _ seconds: Double, _ cancellation: Cancellation
    ) throws(ApplianceError) -> Started {
        let program: AttachedProgram
        let channel: AgentChannel
        do {
            let pair = try OwnedDescriptor.socketPair()
            channel = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: cancellation)
            // Closed here once the machine has it, so that its end is seen.
            let other = OwnedDescriptor(owning: pair.other)
            let machine = ApplianceMachine(
                media: media, accelerator: accelerator, memoryMiB: options.memoryMiB,
                processorCount: max(1, min(2, SystemFacts.processorCount())), disks: disks, channel: other.raw)
            do throws(EmulatorError) {
                program = try AttachedProgram(machine.arguments, kept: [other.raw], deathSignal: .kill)
            } catch { throw ApplianceError.emulator(error) }
            try other.close()
        } catch let error as ApplianceError { throw error } catch let error as SystemCallError {
            throw .system(error)
        } catch { throw .machine("\(error)") }
        do throws(ApplianceError) {
            return Started(channel: channel, kernel: try hello(channel, seconds), program: program, thread: nil)
        } catch {
            let ending = program.end(withinSeconds: 0.5)
            guard case .machine(let why) = error else { throw error }
            let lines = Self.lastWords(program.lines)
            throw .machine(
                "\(why)\(ending.map { ", \(QemuProgram.system.rawValue) ended: \($0)" } ?? "")\(lines.isEmpty ? "" : ": \(lines)")"
            )
        }
    }

    private static func hello(_ channel: AgentChannel, _ seconds: Double) throws(ApplianceError) -> String {
        guard let frame = try channel.receive(withinSeconds: seconds) else {
            throw .machine("the appliance ended before it answered")
        }
        guard case .hello(let kernel) = try AgentReply(frame) else { throw .untrusted("no greeting") }
        return kernel
    }

    /// What the machine said about its end: the kernel's reason, or else the last lines.
    static func lastWords(_ lines: [String]) -> String {
        let reason = lines.last { line in ["Kernel panic", "Out of memory"].contains(where: line.contains) }
        return reason ?? lines.suffix(3).joined(separator: " / ")
    }

    // MARK: Requests

    func ask(_ request: AgentRequest) throws(ApplianceError) {
        guard check == nil, !isClosed else { throw .machine("the appliance is in use") }
        try channel.send(request.frame)
    }

    func reply() throws(ApplianceError) -> AgentReply {
        guard let frame = try channel.receive(withinSeconds: Self.patienceSeconds) else {
            let lines = program.map { Self.lastWords($0.lines) } ?? ""
            throw .machine(
                "the appliance ended unexpectedly\(lines.isEmpty ? "" : " (\(lines))"): a damaged filesystem can cause this, or too little memory"
            )
        }
        let reply = try AgentReply(frame)
        if case .failed(let code, let text) = reply {
            let isMissing = [Errno.noSuchFileOrDirectory, .notDirectory].contains(Errno(rawValue: code))
            throw isMissing ? .notFound(text) : .failed(text)
        }
        return reply
    }

    /// Sends the keys of LUKS volumes, each a file's bytes.
    package func unlock(_ keys: [[UInt8]]) throws(ApplianceError) {
        try ask(.keys(keys))
        guard case .done = try reply() else { throw .untrusted("no answer to the keys") }
    }

    /// The volumes of all disks.
    package func volumes() throws(ApplianceError) -> [AgentVolume] {
        try ask(.volumes)
        guard case .volumes(let volumes) = try reply() else { throw .untrusted("no list of volumes") }
        try Self.check(volumes, diskCount: diskCount)
        return volumes
    }

    /// Every disk has a volume, if only one of unknown contents. A disk that the machine has not found must not look
    /// like one without files.
    static func check(_ volumes: [AgentVolume], diskCount: Int) throws(ApplianceError) {
        let found = Set(volumes.map { Int($0.disk) })
        guard (0..<diskCount).allSatisfy(found.contains) else {
            throw .machine(
                "the appliance did not find the disk: reading the image may take too long. Try again, or copy the image to a faster place first"
            )
        }
    }

    package func mount(
        _ volume: AgentVolume, _ subvolume: AgentSubvolume = .topLevel
    ) throws(ApplianceError) -> Mounted {
        guard volume.obstacle.isEmpty else { throw .refused("\(volume.name) cannot be read: \(volume.obstacle)") }
        try ask(.mount(volume: volume.id, subvolume))
        guard case .mounted(let number) = try reply() else { throw .untrusted("no mount") }
        return Mounted(volume: volume, number: number)
    }

    /// Begins a walk: what is at and below a path.
    package func beginWalk(
        _ mounted: Mounted, _ path: [UInt8], depth: UInt32 = .max, followsLast: Bool = false, contents: Bool = false,
        attributes: Bool = false
    ) throws(ApplianceError) {
        try ask(
            .walk(
                .init(
                    mount: mounted.number, path: path, depth: depth, followsLast: followsLast, contents: contents,
                    attributes: attributes)))
        check = WalkCheck(contents: contents, depth: depth)
    }

    /// The next answer of the walk, checked for its order: a folder before what is in it, contents within their file.
    /// - Returns: `nil` at the end of the walk.
    package func nextOfWalk() throws(ApplianceError) -> AgentReply? {
        guard check != nil else { return nil }
        let next: AgentReply
        do { next = try reply() } catch {
            // A refused walk is over; after any other error the stream is not used again.
            switch error {
            case .notFound, .failed: check = nil
            default: break
            }
            throw error
        }
        try check?.take(next)
        guard case .done = next else { return next }
        check = nil
        return nil
    }

    /// A whole walk.
    package func walk(
        _ mounted: Mounted, _ path: [UInt8], depth: UInt32 = .max, followsLast: Bool = false, contents: Bool = false,
        _ body: (AgentReply) throws -> Void
    ) throws {
        try beginWalk(mounted, path, depth: depth, followsLast: followsLast, contents: contents)
        while let next = try nextOfWalk() { try body(next) }
    }
}
