// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import Imaging
import JobModel
import Operations

/// Shows an operation's events to a person at a terminal, or in a log.
struct TerminalEvents: EventSink {
    func take(_ event: Event) {
        switch event {
        case .log(let text): Console.message(text)
        case .notice(let notice): Console.message(notice.line)
        case .planned(let plan): for line in plan.lines { Console.message(line) }
        case .step(let text): Console.message(text)
        // `ProgressDisplay` shows these, and the command says how it ended.
        case .phase, .progress, .finished: break
        }
    }
}

extension OpenedImage {
    /// Reads all of it for what is lost.
    func losses() throws -> Salvage {
        let progress = Progress()
        let display = ProgressDisplay(progress)
        defer { display.end() }
        return try reading { try CaptureVerifier.losses(of: $0, progress: progress) }
    }
}
