// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The session's side of all consoles: what it says appears on each; what is typed on any arrives here by PID 1.
final class SessionConsole {
    /// A line that somebody typed.
    struct Reply: Equatable {
        /// At which console.
        var console: String
        /// What, without white space at its ends.
        var text: String
    }

    private var splitter = LineSplitter()
    private var messages: [SupervisorMessage] = []
    private var inputEnded = false

    /// Shows a line on every console.
    func say(_ text: String) {
        _ = try? FileDescriptor.standardOutput.writeAll(Array((text + "\n").utf8))
    }

    /// Shows text without ending the line.
    func prompt(_ text: String) {
        _ = try? FileDescriptor.standardOutput.writeAll(Array(text.utf8))
    }

    /// Shows how a job ended, as the last thing on every screen, and how the menu comes back.
    func present(_ outcome: JobOutcome, waits: Bool) {
        say("\n" + outcome.banner)
        if waits { prompt("Press Enter for the menu. ") }
    }

    /// Waits until somebody presses Enter at any console, and meanwhile opens shells.
    func waitForEnter() {
        dropTyped()
        while !isDeserted {
            guard let reply = nextReply() else { continue }
            guard ["shell", "sh"].contains(reply.text.lowercased()) else { return }
            openShell(on: reply.console)
        }
    }

    /// Drops what was typed before: an answer belongs to a question that could be read.
    func dropTyped() {
        while receive(seconds: 0) {}
        messages.removeAll {
            if case .line = $0 { true } else { false }
        }
    }

    /// The next line; `nil` where a rescue shell ended meanwhile, or PID 1 is gone.
    func nextReply() -> Reply? {
        while true {
            while !messages.isEmpty {
                switch messages.removeFirst() {
                case .line(let console, let text): return Reply(console: console, text: text.strippedSpaces)
                case .shellEnded: return nil
                }
            }
            if inputEnded { return nil }
            _ = receive(seconds: nil)
        }
    }

    /// Whether PID 1 no longer listens: nobody can answer any more.
    var isDeserted: Bool { inputEnded && messages.isEmpty }

    /// After how many seconds it is said that a job that was asked to end has not. Commands of ours end within 5 s, whatever
    /// their disks do, unless a program at work on a filesystem or a loader must end its work first.
    private static let patience = 8.0

    /// Waits until a child has ended, and meanwhile hears those who ask for its end or for a shell: a job may take hours, or
    /// hang.
    func wait(for child: borrowing ChildProcess) -> ChildProcess.Ending {
        var deadline: Double?
        while true {
            if let ending = child.poll() { return ending }
            if let late = deadline, SystemFacts.monotonicSeconds() > late {
                say(
                    "The job has not ended yet: a program that changes a filesystem or a loader ends its work first. Do not switch off."
                )
                deadline = .infinity
            }
            if !receive(seconds: 0.2), inputEnded { SystemFacts.sleep(seconds: 0.2) }
            for case .line(let console, let text) in messages {
                switch text.strippedSpaces.lowercased() {
                case "shell", "sh": openShell(on: console)
                case "c":
                    say("The job is asked to end.")
                    Processes.send(.interrupt, to: child.processID)
                    deadline = deadline ?? SystemFacts.monotonicSeconds() + Self.patience
                default:
                    say(
                        "A job is at work. Type c to end it, or shell for a rescue shell; wait for its end for anything else."
                    )
                }
            }
            messages = []
        }
    }

    /// Asks PID 1 for a rescue shell, at one console or at all.
    func openShell(on console: String?) {
        do {
            try Files.put(SessionRequest.shell(console: console).encoded + "\n", into: RecoveryPaths.control)
        } catch {
            say("The shell could not be opened: \(error)")
        }
    }

    /// Takes what PID 1 sent; whether there was anything.
    private func receive(seconds: Double?) -> Bool {
        let state = Polling.wait(for: [.init(.standardInput)], seconds: seconds)
        guard let first = state.first, first.isReadable, !inputEnded else { return false }
        var bytes: [UInt8] = []
        guard case .moved = FileDescriptor.standardInput.readAvailable(into: &bytes) else {
            inputEnded = true
            return false
        }
        messages += splitter.add(bytes).compactMap { SupervisorMessage($0) }
        return true
    }
}
