// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A running virtual machine. It ends with `stop`, with the object, and with the thread that started it. For one thread.
package final class RunningMachine {
    package let settings: MachineSettings
    private let qmp: QMPClient
    private let child: ChildProcess
    private let errors: FilePath
    private var ending: ChildProcess.Ending?
    private var serialLines: [(place: BootJudge.Place, pipe: OwnedPipe)] = []
    private var agentPipe: (toGuest: OwnedPipe, fromGuest: OwnedPipe)?

    /// A descriptor that a tuple can hold.
    private final class OwnedPipe {
        let descriptor: OwnedDescriptor
        init(_ path: FilePath) throws(SystemCallError) {
            // Both ways: an open for one of them would wait for the other side.
            descriptor = try OwnedDescriptor.open(path, .readWrite, options: [.nonBlocking, .noFollow])
        }
    }

    /// Starts the machine in `settings.folder`, a private one.
    package init(_ settings: MachineSettings) throws(EmulatorError) {
        try QemuProgram.system.require()
        self.settings = settings
        errors = settings.folder.appending("qemu.errors")
        do throws(SystemCallError) {
            for (name, place) in settings.isWatched ? [("serial", BootJudge.Place.serial), ("console", .console)] : [] {
                serialLines.append((place, try Self.pipes(name, in: settings.folder).fromGuest))
            }
            if settings.isWatched { agentPipe = try Self.pipes("agent", in: settings.folder) }
            let said = try OwnedDescriptor.open(
                errors, .writeOnly, options: [.create, .truncate, .noFollow], permissions: .ownerReadWrite)
            let input = try OwnedDescriptor.pipe()
            let output = try OwnedDescriptor.pipe()
            child = try ChildProcess(
                settings.arguments, environment: Self.environment(settings.display), input: input.readEnd.raw,
                output: output.writeEnd.raw, error: said.raw, deathSignal: .kill, newSession: true)
            qmp = QMPClient(
                input: try input.writing(), output: try output.reading(), program: QemuProgram.system.rawValue)
        } catch { throw .system(error) }
        do throws(EmulatorError) { try execute("qmp_capabilities") } catch {
            stop()
            let words = lastWords
            throw words.isEmpty ? error : .failed(program: QemuProgram.system.rawValue, why: words)
        }
    }

    deinit { stop() }

    /// The named pipes of a `pipe` character device.
    private static func pipes(
        _ name: String, in folder: FilePath
    ) throws(SystemCallError) -> (toGuest: OwnedPipe, fromGuest: OwnedPipe) {
        for suffix in ["in", "out"] { try Files.makeNamedPipe(folder.appending("\(name).\(suffix)")) }
        return (try OwnedPipe(folder.appending("\(name).in")), try OwnedPipe(folder.appending("\(name).out")))
    }

    /// A window needs to find its display.
    private static func environment(_ display: MachineSettings.Display) -> [String] {
        var list = ChildProcess.plainEnvironment.filter { display != .gtk || !$0.hasPrefix("HOME=") }
        guard display == .gtk else { return list }
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "XAUTHORITY", "HOME", "XDG_DATA_DIRS"] {
            if let value = SystemFacts.environment(name) { list.append("\(name)=\(value)") }
        }
        return list
    }

    // MARK: What it says

    /// What a watched machine has sent.
    package struct Heard {
        package var output: [(place: BootJudge.Place, bytes: [UInt8])] = []
        package var agentAnswers: [String] = []
        package var events: [QMPEvent] = []
    }

    private var agent = GuestAgent()
    private var agentIsOpen = false
    private var lastQuestion = 0.0

    /// Collects what the machine has sent, after a wait of at most `seconds`.
    package func listen(seconds: Double) throws(EmulatorError) -> Heard {
        var wishes = [Polling.Wish(qmp.descriptor)] + serialLines.map { Polling.Wish($0.pipe.descriptor.raw) }
        if let agentPipe { wishes.append(Polling.Wish(agentPipe.fromGuest.descriptor.raw)) }
        _ = Polling.wait(for: wishes, seconds: seconds)
        var heard = Heard()
        try qmp.pump()
        heard.events = qmp.takeEvents()
        for event in heard.events where event.name == "VSERPORT_CHANGE" && event.data["id"]?.string == "agent" {
            agentIsOpen = event.data["open"]?.bool ?? false
        }
        for (place, pipe) in serialLines {
            var bytes: [UInt8] = []
            if case .moved = pipe.descriptor.raw.readAvailable(into: &bytes) { heard.output.append((place, bytes)) }
        }
        heard.agentAnswers = talkToAgent()
        return heard
    }

    /// Asks the agent every few seconds whether it is there.
    private func talkToAgent() -> [String] {
        guard let agentPipe else { return [] }
        var bytes: [UInt8] = []
        _ = agentPipe.fromGuest.descriptor.raw.readAvailable(into: &bytes)
        let answers = agent.take(bytes)
        let now = SystemFacts.monotonicSeconds()
        if agentIsOpen, now - lastQuestion > 4 {
            lastQuestion = now
            // The pipe is full only while the agent reads nothing: the question is asked again.
            _ = agentPipe.toGuest.descriptor.raw.writeAvailable(agent.question()[...])
        }
        return answers
    }

    /// The picture on its screen.
    package func screen() throws(EmulatorError) -> ScreenImage? {
        ScreenImage(ppm: try dump("screen.ppm", [:], seconds: 60))
    }

    /// The picture on its screen as a PNG file.
    /// - Parameter seconds: how long QEMU may take for it.
    package func picture(seconds: Double = 60) throws(EmulatorError) -> [UInt8] {
        try dump("screen.png", ["format": .string("png")], seconds: seconds)
    }

    /// The bytes of a picture, through a file.
    private func dump(
        _ name: String, _ arguments: [String: QMPValue], seconds: Double
    ) throws(EmulatorError) -> [UInt8] {
        let path = settings.folder.appending(name)
        defer { try? Files.remove(path) }
        do throws(EmulatorError) {
            try execute(
                "screendump", arguments.merging(["filename": .string(path.string)]) { $1 }, seconds: seconds)
        } catch {
            // The folder may be full.
            guard case .failed(let program, let why) = error, !hasEnded else { throw error }
            throw .failed(program: program, why: "\(why) (\(path))")
        }
        do throws(SystemCallError) { return try Files.read(path, limit: Self.longestPicture) } catch {
            throw .system(error)
        }
    }

    /// Bound on a picture's file, in bytes: 8192 × 8192 pixels.
    private static let longestPicture = 1 << 28

    /// The number of writes of the guest to its disk that have failed: not every controller stops the machine then.
    package func failedWriteCount() throws(EmulatorError) -> Int64 {
        guard case .array(let devices) = try execute("query-blockstats") else { return 0 }
        return devices.reduce(0) { sum, device in
            guard case .integer(let count)? = device["stats"]?["failed_wr_operations"] else { return sum }
            return sum + max(0, min(count, 1 << 32))
        }
    }

    /// The version of QEMU: `7.2.22`.
    package func qemuVersion() throws(EmulatorError) -> String {
        let version = try execute("query-version", seconds: 10)["qemu"]
        let numbers = ["major", "minor", "micro"].compactMap { name -> String? in
            guard case .integer(let number)? = version?[name] else { return nil }
            return "\(number)"
        }
        return numbers.joined(separator: ".")
    }

    /// Runs a command. Of a QEMU that ends meanwhile, the error says how.
    @discardableResult
    private func execute(
        _ command: String, _ arguments: [String: QMPValue] = [:], seconds: Double = 60
    ) throws(EmulatorError) -> QMPValue {
        do throws(EmulatorError) { return try qmp.execute(command, arguments, seconds: seconds) } catch {
            // Its pipes are closed some moments before its end.
            guard qmp.isEnded, waitForEnd(seconds: 2) else { throw error }
            throw ended
        }
    }

    // MARK: Its end

    /// That it has ended, and how.
    package var ended: EmulatorError {
        .failed(program: QemuProgram.system.rawValue, why: "it ended: \(endingText)")
    }

    /// Presses its power button.
    package func pressPowerButton() throws(EmulatorError) { try execute("system_powerdown") }

    /// Whether QEMU has ended.
    package var hasEnded: Bool {
        if ending == nil { ending = child.poll() }
        return ending != nil
    }

    /// Whether QEMU has ended by itself without an error: the guest has switched itself off.
    package var hasEndedWell: Bool { hasEnded && ending == .exited(0) }

    /// How QEMU has ended: its last messages, or how the kernel reports its end if it gave none.
    package var endingText: String {
        let words = lastWords
        guard words.isEmpty, let ending else { return words }
        return "\(ending)" + (ending == .signalled(9) ? " (if memory ran out: --memory takes less)" : "")
    }

    /// QEMU's last messages.
    private var lastWords: String {
        let bytes = (try? Files.read(errors, limit: 1 << 20)) ?? []
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").suffix(3)
        return lines.map { ConsoleText.shown(String($0)) }.joined(separator: " / ")
    }

    /// Ends it, as if its power were cut. QEMU writes the overlay out first if it still can.
    package func stop() {
        if hasEnded { return }
        _ = try? qmp.execute("quit", seconds: 5)
        if waitForEnd() { return }
        // The kernel may keep it as long as its disk does not answer.
        Processes.send(.kill, to: child.processID)
        _ = waitForEnd()
    }

    private func waitForEnd(seconds: Double = 10) -> Bool {
        let deadline = SystemFacts.monotonicSeconds() + seconds
        while !hasEnded, SystemFacts.monotonicSeconds() < deadline { SystemFacts.sleep(seconds: 0.05) }
        return hasEnded
    }
}
