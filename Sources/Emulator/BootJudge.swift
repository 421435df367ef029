// SPDX-License-Identifier: GPL-3.0-or-later

/// Judges from what a machine shows whether its system has started. A pure value: it is given observations with their
/// times, and asked for its verdict.
///
/// Nothing is proven without a sign that only a started system gives, and a sign must hold: a stop sign, a restart or
/// the end of the machine takes it back.
package struct BootJudge: Sendable {
    /// Where text was seen.
    package enum Place: String, Codable, Sendable, CaseIterable {
        /// The first serial port.
        case serial
        /// The virtio console.
        case console
        case screen

        package var description: String {
            switch self {
            case .serial: "the serial line"
            case .console: "the virtio console"
            case .screen: "the screen"
            }
        }
    }

    package enum Observation: Equatable, Sendable {
        /// Bytes from a serial line.
        case output(Place, [UInt8])
        case screen(Screen)
        /// The guest agent has answered; with the name of the system, if it gave one.
        case agent(system: String?)
        case restart
        case powerOff
        case panic
        /// QEMU stopped the machine after an error.
        case stop
    }

    package struct Screen: Equatable, Sendable {
        /// The rows of text; `nil` for a picture.
        package var rows: [String]?
        /// Whether it differs from the one before by more than a cursor or a clock.
        package var hasChanged: Bool
        /// Whether it is mostly one blue.
        package var isBlue = false
        /// Whether it shows nothing at all.
        package var isBlank = false

        package init(rows: [String]?, hasChanged: Bool, isBlue: Bool = false, isBlank: Bool = false) {
            (self.rows, self.hasChanged, self.isBlue, self.isBlank) = (rows, hasChanged, isBlue, isBlank)
        }
    }

    package struct Limits: Equatable, Sendable {
        /// The seconds after which no sign is waited for.
        package var timeout: Double
        /// The seconds for which a sign must hold.
        package var settle = 10.0
        /// The seconds for which a stop sign must hold.
        package var hold = 5.0
        /// The seconds for which the expected text must stand where no other sign does: what comes after it may be a
        /// job that never ends, which systemd reports late.
        package var alone = 60.0
        /// The seconds after which a screen without a sign counts as standing still.
        package var quiet = 120.0

        package init(timeout: Double) { self.timeout = timeout }
    }

    private let limits: Limits
    private let expected: String?

    /// Whether the system has taken over from its loader: text from before may be a menu's or a command line's.
    private var hasLeftLoader = false
    private var lines: [Place: ConsoleText] = [.serial: ConsoleText(), .console: ConsoleText()]
    private var screen: Screen?
    /// The rows that the loader may have left on the screen.
    private var loaderRows: Set<String> = []
    /// Whether the screen was seen since the system took over.
    private var hasSeenSystemScreen = false
    /// Whether the system has said that it is going down: signs do not count until a restart.
    private var isGoingDown = false
    private var restartCount = 0
    private var isPoweredOff = false
    private var agent: (system: String?, first: Double, last: Double)?
    private var expectedPlace: Place?
    /// The failures that a serial line has told; they stay until a restart.
    private var told: BootVerdict.Reason?
    private var sign: (value: BootVerdict.Sign, since: Double)?
    /// Since when a sign stands that would do without an expected text.
    private var supported: Double?
    private var stop: (reason: BootVerdict.Reason, since: Double)?
    private var lastChange = 0.0

    /// More restarts than a first start needs (a relabel, an update) are a loop.
    private static let mostRestarts = 3

    /// - Parameter expected: the text that is the sign; without it, any sign counts.
    package init(_ limits: Limits, expecting expected: String? = nil) {
        self.limits = limits
        self.expected = expected
    }

    /// - Parameter now: seconds since the machine was started.
    package mutating func take(_ observation: Observation, at now: Double) {
        switch observation {
        case .output(let place, let bytes): takeOutput(place, bytes, now)
        case .screen(let screen): takeScreen(screen, now)
        case .agent(let system):
            hasLeftLoader = true
            agent = (system ?? agent?.system, agent?.first ?? now, now)
        case .restart:
            restartCount += 1
            let count = restartCount
            let (limits, expected) = (limits, expected)
            self = BootJudge(limits, expecting: expected)
            (restartCount, lastChange) = (count, now)
        case .powerOff: isPoweredOff = true
        case .panic: told = .kernelPanic
        case .stop: told = told ?? .stopped
        }
        reconsider(at: now)
    }

    private mutating func takeOutput(_ place: Place, _ bytes: [UInt8], _ now: Double) {
        guard !bytes.isEmpty, var text = lines[place] else { return }
        lastChange = now
        let ended = text.take(bytes)
        lines[place] = text
        for line in ended { takeLine(line, place) }
        // A line that has not ended may be the last word of a system, but not yet be whole.
        if !text.current.isEmpty { takeLine(text.current, place) }
    }

    private mutating func takeLine(_ line: String, _ place: Place) {
        if BootSigns.isOfSystem(line) { leaveLoader() }
        if hasLeftLoader, BootSigns.isShutdown(line) { isGoingDown = true }
        if let failure = BootSigns.failure(in: line), !(hasLeftLoader && failure == .noBootableDevice) {
            told = told ?? failure
        }
        if hasLeftLoader, let expected, !BootSigns.isCommandLineEcho(line), line.contains(expected) {
            expectedPlace = expectedPlace ?? place
        }
    }

    private mutating func leaveLoader() {
        guard !hasLeftLoader else { return }
        hasLeftLoader = true
        // Text of the firmware does not count against a system that started after all.
        if told == .noBootableDevice || told == .firmwareShell { told = nil }
    }

    private mutating func takeScreen(_ screen: Screen, _ now: Double) {
        if screen.hasChanged || screen.rows != self.screen?.rows { lastChange = now }
        self.screen = screen
        guard let rows = screen.rows else { return }
        let firstOfSystem = rows.firstIndex(where: BootSigns.isOfSystem)
        // A quiet start shows nothing before its login.
        if firstOfSystem != nil || Self.lastPrompt(rows[...]) != nil { leaveLoader() }
        guard hasLeftLoader else {
            loaderRows = Set(rows)
            return
        }
        if !hasSeenSystemScreen {
            hasSeenSystemScreen = true
            // The system may have written to a serial line only, or below what the loader left: its menu counts as
            // little on this screen as on the one before.
            if Self.lastPrompt(rows[...]) == nil { loaderRows.formUnion(rows[..<(firstOfSystem ?? rows.endIndex)]) }
        }
        if rows.contains(where: BootSigns.isShutdown) { isGoingDown = true }
        if let expected, Self.withoutEchoes(rows).contains(where: { $0.contains(expected) && !loaderRows.contains($0) })
        {
            expectedPlace = expectedPlace ?? .screen
        }
    }

    /// The rows without those of the kernel's command line, which may take several.
    private static func withoutEchoes(_ rows: [String]) -> [String] {
        var isEcho = false
        return rows.filter { row in
            if BootSigns.isCommandLineEcho(row) {
                isEcho = true
            } else if BootSigns.isKernelMessage(row) || row.isEmpty {
                isEcho = false
            }
            return !isEcho
        }
    }

    // MARK: What stands now

    private mutating func reconsider(at now: Double) {
        let newSign = currentSign()
        if newSign.map({ !Self.isSame($0, sign?.value) }) ?? true { sign = newSign.map { ($0, now) } }
        if let newSign, let since = sign?.since { sign = (newSign, since) }
        supported = sign != nil && ownSign() != nil ? supported ?? now : nil
        if sign != nil, !hasLeftLoader { leaveLoader() }
        let newStop = currentStop(at: now)
        if stop?.reason != newStop { stop = newStop.map { ($0, now) } }
        // A sign must hold without a stop sign between.
        if stop != nil, let value = sign?.value { sign = (value, now) }
        if stop != nil, supported != nil { supported = now }
    }

    private static func isSame(_ one: BootVerdict.Sign, _ other: BootVerdict.Sign?) -> Bool { one.name == other?.name }

    /// The strongest sign that stands.
    private func currentSign() -> BootVerdict.Sign? {
        if isGoingDown { return nil }
        if expected != nil { return isWaiting ? nil : expectedPlace.map { .expectedText($0) } }
        return ownSign()
    }

    /// The strongest sign that a system gives by itself.
    private func ownSign() -> BootVerdict.Sign? {
        if let agent { return .agent(system: agent.system) }
        for place in [Place.serial, .console] {
            guard let text = lines[place] else { continue }
            if let prompt = Self.lastPrompt(text.lines.suffix(50) + [text.current]) {
                return .serialLogin(prompt: prompt)
            }
        }
        return screen?.rows.flatMap { Self.lastPrompt(Self.withoutEchoes($0)[...]) }.map { .screenLogin(prompt: $0) }
    }

    /// Whether the last output is that a unit or a passphrase is still waited for, maybe for ever: a text that came
    /// before proves nothing then.
    private var isWaiting: Bool {
        let last = [Place.serial, .console].map { place in
            lines[place].flatMap { $0.current.isEmpty ? $0.lines.last : $0.current }
        }
        let row = screen?.rows?.last { !$0.allSatisfy(\.isWhitespace) }
        return (last + [row]).contains { $0.map(BootSigns.isWait) ?? false }
    }

    /// The login prompt that the lines end with, or that only messages of the kernel follow.
    private static func lastPrompt(_ lines: ArraySlice<String>) -> String? {
        for line in lines.reversed() where !line.allSatisfy(\.isWhitespace) {
            if let prompt = BootSigns.loginPrompt(line) { return prompt }
            guard BootSigns.isKernelMessage(line) else { return nil }
        }
        return nil
    }

    private func currentStop(at now: Double) -> BootVerdict.Reason? {
        if let told { return told }
        for place in [Place.serial, .console] {
            if let failure = (lines[place]?.current).flatMap(BootSigns.failure(prompt:)) { return failure }
        }
        guard let screen else { return nil }
        if let rows = screen.rows {
            let failures = rows.compactMap(BootSigns.failure(in:)).filter {
                !(hasLeftLoader && $0 == .noBootableDevice)
            }
            if let failure = failures.first { return failure }
            return rows.last { !$0.allSatisfy(\.isWhitespace) }.flatMap(BootSigns.failure(prompt:))
        }
        // A system whose agent answers may have a blue desktop.
        let agentAnswers = agent.map { now - $0.last < limits.settle } ?? false
        return screen.isBlue && !agentAnswers ? .blueScreen : nil
    }

    // MARK: The verdict

    /// - Returns: `nil` while it is open.
    package func verdict(at now: Double) -> BootVerdict? {
        if isPoweredOff { return .notProven(.poweredOff) }
        if restartCount > Self.mostRestarts { return .notProven(.restarts) }
        if let stop {
            // Colours are a weaker sign than words.
            let hold = stop.reason == .blueScreen ? limits.hold * 3 : limits.hold
            return now - stop.since >= hold || now >= limits.timeout ? .notProven(stop.reason) : nil
        }
        if let sign {
            // An agent must have answered again at the end.
            let held = if case .agent = sign.value { agent?.last ?? sign.since } else { now }
            var (end, more) = (sign.since + limits.settle, 3 * limits.settle)
            if expected != nil {
                end = min(sign.since + limits.alone, max(sign.since, supported ?? .infinity) + limits.settle)
                more = max(more, limits.alone)
            }
            if held >= end { return .proven(sign.value) }
            return now < limits.timeout + more ? nil : .notProven(.timeout)
        }
        let stands = now - lastChange >= limits.quiet && showsSomething
        if stands, expected == nil { return .started }
        guard now >= limits.timeout else { return nil }
        return showsSomething && now - lastChange >= limits.quiet / 2 && expected == nil
            ? .started : .notProven(.timeout)
    }

    /// Whether the screen may be that of a started system: not a loader's text, and not empty.
    private var showsSomething: Bool {
        guard let screen, !screen.isBlank else { return false }
        return screen.rows == nil || hasLeftLoader
    }
}
