// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel
import LinuxSystem
import SystemPackage

struct EventOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Write events to this open descriptor (3 or more), one JSON object a line.", valueName: "fd"))
    var events: Int32?

    func validate() throws {
        guard let events else { return }
        guard events >= 3, (try? Stat(FileDescriptor(rawValue: events))) != nil else {
            throw ValidationError("--events takes the number of an open descriptor, 3 or more")
        }
    }

    /// The sink for a command's events.
    /// - Parameter operation: the name in the last event if the operation sent none itself.
    func sink(_ operation: String, _ terminal: TerminalEvents = Console.events) -> any EventSink {
        guard let events else { return terminal }
        let json = JSONEvents(FileDescriptor(rawValue: events), operation)
        CommandRun.tells(json)
        return SeveralSinks(sinks: [terminal, json])
    }
}

/// Passes each event to several sinks.
struct SeveralSinks: EventSink {
    let sinks: [any EventSink]
    func take(_ event: Event) { for sink in sinks { sink.take(event) } }
}
