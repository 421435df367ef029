// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Where a command writes its events for programs.
struct EventOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Write events to this open descriptor (3 or more), one JSON object a line.", valueName: "fd"))
    var events: Int32?

    func validate() throws {
        guard let events else { return }
        guard events >= 3, JSONEvents.isOpen(events) else {
            throw ValidationError("--events takes the number of an open descriptor, 3 or more")
        }
    }

    /// What takes a command's events.
    /// - Parameter terminal: shows them to a person.
    func sink(_ terminal: TerminalEvents = Console.events) -> any EventSink {
        guard let events else { return terminal }
        let json = JSONEvents(FileDescriptor(rawValue: events))
        CommandRun.tells(json)
        return SeveralSinks(sinks: [terminal, json])
    }
}

/// Hands each event to all of several consumers.
struct SeveralSinks: EventSink {
    let sinks: [any EventSink]
    func take(_ event: Event) { for sink in sinks { sink.take(event) } }
}

/// Writes events as JSON, one object a line. How far a part is comes twice a second at most.
final class JSONEvents: EventSink {
    private struct State {
        var lastProgress = -Double.infinity
        /// Nobody reads any more.
        var isClosed = false
        /// The last event was written.
        var isFinished = false
    }
    private let state = Monitor(State())
    private let output: FileDescriptor

    init(_ output: FileDescriptor) { self.output = output }

    static func isOpen(_ descriptor: Int32) -> Bool { (try? Stat(FileDescriptor(rawValue: descriptor))) != nil }

    func take(_ event: Event) {
        guard var line = try? JSONText.encode(event) else { return }
        line.append(10)
        let output = output
        state.update { state in
            guard !state.isClosed, !state.isFinished else { return }
            if case .progress = event {
                let now = SystemFacts.monotonicSeconds()
                guard now - state.lastProgress >= 0.5 else { return }
                state.lastProgress = now
            }
            if case .phase = event { state.lastProgress = -.infinity }
            if case .finished = event { state.isFinished = true }
            // A reader that went away must not end the work.
            state.isClosed = (try? output.writeAll(line)) == nil
        }
    }
}
