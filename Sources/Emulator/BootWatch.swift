// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// Shows a `BootJudge` what a watched machine does. For one thread.
package final class BootWatch {
    private let machine: RunningMachine
    private var judge: BootJudge
    private let start: Double
    private var lastScreen: (image: ScreenImage, seconds: Double)?
    /// The rows of text on the screen; `nil` for a picture.
    package private(set) var rows: [String]?
    /// The end of what came from the serial lines.
    package var serialLog: [UInt8] { log.bytes }
    private var log = LogTail()
    /// Whether the machine has shown or sent nothing at all: not even its firmware runs.
    package private(set) var isSilent = true

    /// The seconds between two looks at the screen.
    private static let screenInterval = 2.0
    /// The share of pixels that a cursor and a clock change.
    private static let restlessShare = 0.005

    package init(_ machine: RunningMachine, _ limits: BootJudge.Limits, expecting expected: String?) {
        self.machine = machine
        judge = BootJudge(limits, expecting: expected)
        start = SystemFacts.monotonicSeconds()
    }

    package var seconds: Double { SystemFacts.monotonicSeconds() - start }

    /// Listens for half a second.
    /// - Returns: the verdict, if there is one; and the events of the machine.
    package func step() throws(EmulatorError) -> (verdict: BootVerdict?, events: [QMPEvent]) {
        let heard = try machine.listen(seconds: 0.5)
        let now = seconds
        for (place, bytes) in heard.output {
            log.append(bytes)
            isSilent = false
            judge.take(.output(place, bytes), at: now)
        }
        for system in heard.agentAnswers { judge.take(.agent(system: system.isEmpty ? nil : system), at: now) }
        for event in heard.events {
            if let observation = Self.observation(of: event) { judge.take(observation, at: now) }
        }
        if machine.hasEnded { throw machine.ended }
        if now - (lastScreen?.seconds ?? -Self.screenInterval) >= Self.screenInterval { try look(now) }
        return (judge.verdict(at: seconds), heard.events)
    }

    private func look(_ now: Double) throws(EmulatorError) {
        guard let image = try machine.screen() else { return }
        let change = lastScreen.map { image.difference(from: $0.image) } ?? 1
        lastScreen = (image, now)
        if change > 0 { rows = ScreenReader.text(image) }
        if !image.isBlank, !ScreenReader.isUntouched(rows) { isSilent = false }
        judge.take(
            .screen(
                .init(
                    rows: rows, hasChanged: change > Self.restlessShare, isBlue: image.isBlue, isBlank: image.isBlank)),
            at: now)
    }

    /// What an event of QMP (docs/interop/qemu-qmp-ref) says about the guest.
    static func observation(of event: QMPEvent) -> BootJudge.Observation? {
        switch event.name {
        case "RESET": event.data["guest"]?.bool == true ? .restart : nil
        case "SHUTDOWN": event.data["guest"]?.bool == true ? .powerOff : nil
        case "GUEST_PANICKED": .panic
        // After a failed write, or an error of KVM; after a power-off or a panic too, which are told before it.
        case "STOP": .stop
        default: nil
        }
    }
}
