// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel

/// Passes the events of a restore that is a part of another operation: its target is named by the name that it will
/// have, and its end is not the end of the operation.
struct PartEvents: EventSink {
    let events: any EventSink
    /// The path of the unfinished target.
    let hidden: String
    let shown: String

    func take(_ event: Event) {
        switch event {
        case .planned(let plan): events.take(.planned(PlanText(plan.lines.map(renamed))))
        case .log(let text): events.take(.log(renamed(text)))
        case .step(let text): events.take(.step(renamed(text)))
        case .notice(let notice):
            events.take(.notice(Notice(notice.code, notice.severity, renamed(notice.sentence))))
        case .phase, .progress: events.take(event)
        case .finished: break
        }
    }

    func renamed(_ text: String) -> String { text.replacing(hidden, with: shown) }
}
