// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The session's side of all consoles: its messages appear on each; input from any of them arrives through PID 1.
final class SessionConsole {
    /// A typed line.
    struct Reply: Equatable {
        /// The console.
        var console: String
        /// The text, without white space at its ends.
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

    /// Shows the outcome of a job as the last output on every screen, and the prompt for the menu.
    func present(_ outcome: JobOutcome, waits: Bool) {
        say("\n" + outcome.banner)
        if waits { prompt("Press Enter for the menu. ") }
    }

    /// Waits for Enter at any console, and opens requested shells meanwhile.
    func waitForEnter() {
        dropTyped()
        while !isDeserted {
            guard let reply = nextReply() else { continue }
            guard ["shell", "sh"].contains(reply.text.lowercased()) else { return }
            openShell(on: reply.console)
        }
    }

    /// Discards earlier input: an answer must follow a visible question.
    func dropTyped() {
        while receive(seconds: 0) {}
        messages.removeAll {
            if case .line = $0 { true } else { false }
        }
    }

    /// The next line; `nil` if a rescue shell ended meanwhile, or PID 1 is gone.
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

    /// Whether PID 1 is gone: no more input can arrive.
    var isDeserted: Bool { inputEnded && messages.isEmpty }

    /// The time in seconds after which a message reports that a job has not ended as requested. Reforge commands end
    /// within 5 s, independent of their disks, unless a program working on a filesystem or a loader must finish first.
    private static let patience = 8.0

    /// Waits until a child has ended, and meanwhile handles requests for its end or for a shell, as a job may take
    /// hours, or hang.
    func wait(for child: borrowing ChildProcess) -> ChildProcess.Ending {
        var deadline: Double?
        while true {
            if let ending = child.poll() { return ending }
            if let late = deadline, SystemFacts.monotonicSeconds() > late {
                say(
                    "The job has not ended yet: a program that changes a filesystem or a loader finishes its work first. Do not switch off."
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
                        "A job is running. Type c to end it, or shell for a rescue shell; other commands are available after its end."
                    )
                }
            }
            messages = []
        }
    }

    /// Asks PID 1 for a rescue shell, on one console or on all.
    func openShell(on console: String?) {
        do {
            try Files.put(SessionRequest.shell(console: console).encoded + "\n", into: RecoveryPaths.control)
        } catch {
            say("The shell could not be opened: \(error)")
        }
    }

    /// Receives messages from PID 1. Returns whether there were any.
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
