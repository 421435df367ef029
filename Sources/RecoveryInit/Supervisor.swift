// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// PID 1: boot steps, the session as a child, consoles, orphans, the end of the machine. It does no other work, as a
/// trap here is a kernel panic; operations that can fail run in the session, which may die.
final class Supervisor {
    private var consoles: [MediumConsole] = []
    private var log: Log?
    private var session: RunningSession?
    private var requests = LineSplitter()
    private var control: FileDescriptor?
    private var state = State.running

    private enum State {
        /// The session is running or about to be started.
        case running
        /// There is no session; consoles may ask for a shell or a new one.
        case standingIn
        /// The machine ends: all processes were asked to stop, and are killed at the deadline (monotonic seconds).
        case ending(MachineEnd, deadline: Double, killed: Bool)
    }

    private struct RunningSession {
        let processID: Int32
        let input: FileDescriptor
    }
    /// The output pipes of sessions. A pipe stays open longer than its session: processes left behind by the session
    /// must be able to report how they end.
    private var outputs: [FileDescriptor] = []

    /// The log of all messages, in a file in memory, limited in size.
    private struct Log {
        let descriptor: FileDescriptor
        var room = 8 << 20
        /// Removes colours, which are only for screens.
        var filter = EscapeFilter()
    }

    func run() -> Never {
        occupyStandardDescriptors()
        let problems = performBootSteps()
        occupyStandardDescriptors()
        consoles = MediumConsole.all()
        openLog()
        for problem in problems { say("warning: \(problem)") }
        Machine.catchControlAltDelete()
        // Without signals (never seen) the loop still works: it polls every second.
        let signals = (try? Signal.deliver([.child, .interrupt, .terminate, .user1, .user2]))?.release()
        openControl()
        startSession()
        while true { turn(signals) }
    }

    // MARK: Setting up

    /// Without /dev/console, the kernel starts PID 1 with no open descriptors. Descriptors 0 to 2 must not refer to
    /// other files: messages of the runtime would go there.
    private func occupyStandardDescriptors() {
        while let opened = try? FileDescriptor.open("/dev/null", .readWrite) {
            if opened.rawValue > 2 {
                try? opened.close()
                return
            }
        }
    }

    private func performBootSteps() -> [String] {
        let facts = BootStep.Facts(
            commandLine: Files.text("/proc/cmdline") ?? "", hostName: Files.text("/etc/hostname") ?? "reforge")
        var problems: [String] = []
        for step in BootStep.all(for: facts) {
            do { try step.perform() } catch { problems.append("\(step) failed: \(error)") }
        }
        return problems
    }

    private func openLog() {
        guard
            let opened = try? FileDescriptor.open(
                RecoveryPaths.log, .writeOnly, options: [.create, .append, .closeOnExec], permissions: [.ownerReadWrite]
            )
        else { return }
        log = Log(descriptor: opened)
    }

    private func openControl() {
        do {
            try Files.makeNamedPipe(RecoveryPaths.control)
            // For reading and writing, so that it never reports an end when a writer closes it.
            control = try FileDescriptor.open(
                RecoveryPaths.control, .readWrite, options: [.nonBlocking, .closeOnExec])
        } catch {
            say("warning: could not create \(RecoveryPaths.control); the menu cannot open shells")
        }
    }

    // MARK: The loop

    /// Waits for events, and handles them.
    private func turn(_ signals: FileDescriptor?) {
        var wishes: [Polling.Wish] = []
        if let signals { wishes.append(.init(signals)) }
        if let control { wishes.append(.init(control)) }
        wishes += outputs.map { Polling.Wish($0) }
        wishes += consoles.compactMap(\.wish)
        _ = Polling.wait(for: wishes, seconds: 1)
        if let signals { obey(signals) }
        relayOutput()
        obeyRequests()
        for console in consoles {
            console.flush()
            if console.shell == nil {
                for line in console.typedLines() { take(line, from: console) }
            }
        }
        reap()
        proceedToTheEnd()
    }

    private func obey(_ signals: FileDescriptor) {
        var bytes: [UInt8] = []
        while case .moved = signals.readAvailable(into: &bytes, limit: 64) {}
        for byte in bytes {
            // SIGINT is Ctrl-Alt-Del; the others are sent to PID 1 by busybox's reboot, poweroff and halt.
            switch Signal(rawValue: Int32(byte)) {
            case .interrupt, .terminate: end(.reboot)
            case .user1, .user2: end(.poweroff)
            default: break
            }
        }
    }

    private func obeyRequests() {
        guard let control else { return }
        var bytes: [UInt8] = []
        _ = control.readAvailable(into: &bytes)
        for line in requests.add(bytes) {
            switch SessionRequest(line) {
            case .shell(let name):
                for console in consoles where name == nil || console.name == name { startShell(on: console) }
            case nil: say("warning: PID 1 does not understand the request \"\(line.prefix(80))\"")
            }
        }
    }

    /// Handles a typed line.
    private func take(_ line: String, from console: MediumConsole) {
        record(Array("[\(console.name)] \(line)\n".utf8))
        switch state {
        case .running: tellSession(.line(console: console.name, text: line))
        case .standingIn:
            switch StandInAnswer(line) {
            case .shell: startShell(on: console)
            case .menu: startSession()
            case .end(let end): self.end(end)
            case nil: offerStandIn()
            }
        case .ending: break
        }
    }

    private func startShell(on console: MediumConsole) {
        guard case .ending = state else {
            console.show(Array("\nA rescue shell. \"exit\" ends it; the log is \(RecoveryPaths.log).\n".utf8))
            do { try console.startShell() } catch {
                console.show(Array("The shell did not start: \(error)\n".utf8))
                tellSession(.shellEnded(console: console.name))
            }
            return
        }
    }

    private func reap() {
        while case .child(let processID, let ending) = Processes.reap() {
            if processID == session?.processID {
                relayOutput()
                sessionEnded(ending)
            }
            for console in consoles where console.shell == processID {
                console.shell = nil
                console.open()
                switch state {
                case .running: tellSession(.shellEnded(console: console.name))
                case .standingIn: offerStandIn()
                case .ending(let end, _, _): console.show(Array((Self.farewell(end) + "\n").utf8))
                }
            }
        }
    }

    // MARK: The session

    private func startSession() {
        do {
            let input = try FileDescriptor.pipe(options: .closeOnExec)
            let output = try FileDescriptor.pipe(options: .closeOnExec)
            // The child's ends must be closed here: otherwise closing of the other ends would not be noticed.
            defer {
                try? input.readEnd.close()
                try? output.writeEnd.close()
            }
            // With SWIFT_BACKTRACE=enable=no (in plainEnvironment): a crash must not wait for a backtracer, which the
            // medium does not have.
            let child = try ChildProcess(
                [RecoveryPaths.program, RecoveryInit.sessionCommand], input: input.readEnd,
                output: output.writeEnd, error: output.writeEnd, newSession: true)
            let started = RunningSession(processID: child.processID, input: input.writeEnd)
            started.input.setNonblocking(true)
            output.readEnd.setNonblocking(true)
            outputs.append(output.readEnd)
            session = started
            state = .running
        } catch {
            say("The recovery session did not start: \(error)")
            standIn()
        }
    }

    private func tellSession(_ message: SupervisorMessage) {
        // A session that does not read (4 MiB of input) loses lines; PID 1 does not wait for it.
        guard let session else { return }
        _ = session.input.writeAvailable(Array((message.encoded + "\n").utf8)[...])
    }

    /// Sends the output of the session and its children to every console and into the log.
    private func relayOutput() {
        for output in outputs {
            var result = NonblockingResult.moved(1)
            // Bounded: a child with endless output must not keep PID 1 from its other duties.
            for _ in 0..<64 where result != .wouldBlock && result != .ended {
                var bytes: [UInt8] = []
                result = output.readAvailable(into: &bytes)
                show(bytes)
            }
            guard result == .ended else { continue }
            try? output.close()
            outputs.removeAll { $0 == output }
        }
    }

    private func sessionEnded(_ ending: ChildProcess.Ending) {
        if let session { try? session.input.close() }
        session = nil
        if case .ending = state { return }
        if case .exited(0) = ending, let wanted = Files.text(RecoveryPaths.finish).flatMap({ MachineEnd(rawValue: $0) })
        {
            end(wanted)
            return
        }
        say(
            "\nThe recovery session ended unexpectedly (\(ending)). This is a bug in Reforge; the log is \(RecoveryPaths.log)."
        )
        if Files.text(RecoveryPaths.jobMarker) == JobMarker.running {
            say(
                "An unattended job was running: a disk may be partial. \(ResultLine.text(ExitStatus.interrupted.rawValue))"
            )
        }
        stopOrphans()
        standIn()
    }

    /// Asks processes left by the session, such as a restore, to stop: they report the state of the disk themselves.
    private func stopOrphans() {
        let shells = consoles.compactMap(\.shell)
        for id in Processes.children() where !shells.contains(id) { Processes.send(.terminate, to: id) }
    }

    private func standIn() {
        state = .standingIn
        offerStandIn()
    }

    private func offerStandIn() {
        say("Press Enter for a rescue shell, or type: menu (starts the session again), reboot, poweroff")
    }

    // MARK: The end

    private func end(_ end: MachineEnd) {
        if case .ending = state { return }
        say(Self.farewell(end))
        state = .ending(end, deadline: SystemFacts.monotonicSeconds() + 10, killed: false)
        Processes.sendToAll(.terminate)
        // Shells ignore SIGTERM, but end when their terminal hangs up.
        for shell in consoles.compactMap(\.shell) { Processes.send(.hangUp, to: shell) }
    }

    private static func farewell(_ end: MachineEnd) -> String {
        end == .reboot ? "\nRestarting the machine." : "\nSwitching the machine off."
    }

    private func proceedToTheEnd() {
        guard case .ending(let end, let deadline, let killed) = state else { return }
        let isLate = SystemFacts.monotonicSeconds() > deadline
        if !Processes.children().isEmpty, !isLate { return }
        if isLate, !killed {
            Processes.sendToAll(.kill)
            state = .ending(end, deadline: SystemFacts.monotonicSeconds() + 2, killed: true)
            return
        }
        relayOutput()
        Machine.sync()
        unmountDisks()
        Machine.sync()
        for console in consoles { console.flush() }
        // Pending output of a serial line needs a moment before the machine is off.
        SystemFacts.sleep(seconds: 0.2)
        let failure = end == .reboot ? Machine.restart() : Machine.powerOff()
        say("\(failure). Everything is written and unmounted: the power can be switched off.")
        standIn()
    }

    /// Unmounts all filesystems on disks, the latest first.
    private func unmountDisks() {
        for mount in MountEntry.current().reversed()
        where !mount.device.hasPrefix("0:") || mount.source.hasPrefix("/dev/") {
            let place = FilePath(mount.mountPoint)
            if (try? Mount.unmount(place)) == nil { try? Mount.unmount(place, lazily: true) }
        }
    }

    // MARK: Saying

    private func say(_ text: String) { show(Array((text + "\n").utf8)) }

    private func show(_ bytes: [UInt8]) {
        record(bytes)
        for console in consoles { console.show(bytes) }
    }

    private func record(_ bytes: [UInt8]) {
        guard var log, log.room > 0 else { return }
        let text = log.filter.plain(bytes)
        log.room -= text.count
        self.log = log
        _ = try? log.descriptor.writeAll(text)
    }
}
