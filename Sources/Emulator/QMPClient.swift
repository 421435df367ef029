// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The control of a running machine by QEMU's machine protocol, over two pipes: no socket that another program could
/// connect to. For one thread.
package final class QMPClient {
    private let input: OwnedDescriptor
    private let output: OwnedDescriptor
    private let program: String
    private var lines = JSONLines()
    private var answers: [QMPMessage] = []
    private var events: [QMPEvent] = []
    private var commandCount: Int64 = 0
    /// Whether QEMU has closed its side: it has ended.
    package private(set) var isEnded = false

    /// Bound on the events that are kept for `takeEvents`.
    private static let keptEventCount = 4096

    /// - Parameters:
    ///   - input: what QEMU reads.
    ///   - output: what QEMU writes.
    package init(input: consuming OwnedDescriptor, output: consuming OwnedDescriptor, program: String) {
        self.input = input
        self.output = output
        self.program = program
        self.output.raw.setNonblocking(true)
    }

    /// The descriptor that becomes readable with every message.
    package var descriptor: FileDescriptor { output.raw }

    /// Runs a command.
    /// - Parameter seconds: how long QEMU may take to answer.
    /// - Throws: `EmulatorError.failed` with QEMU's words, or if it does not answer.
    @discardableResult
    package func execute(
        _ command: String, _ arguments: [String: QMPValue] = [:], seconds: Double = 60
    ) throws(EmulatorError) -> QMPValue {
        commandCount += 1
        let number = commandCount
        var message: [String: QMPValue] = ["execute": .string(command), "id": .integer(number)]
        if !arguments.isEmpty { message["arguments"] = .object(arguments) }
        do { try input.raw.writeAll(Array((QMPValue.object(message).text + "\n").utf8)) } catch {
            isEnded = true
            throw .failed(program: program, why: "it does not take the command \(command): it has ended")
        }
        let deadline = SystemFacts.monotonicSeconds() + seconds
        while true {
            try pump()
            for answer in answers {
                switch answer {
                case .success(number, let value):
                    answers.removeAll()
                    return value
                case .failure(let failed, let why) where failed == number || failed == nil:
                    answers.removeAll()
                    throw .failed(program: program, why: "\(command): \(why)")
                default: continue
                }
            }
            answers.removeAll()
            let left = deadline - SystemFacts.monotonicSeconds()
            guard !isEnded else { throw .failed(program: program, why: "it ended during the command \(command)") }
            guard left > 0 else {
                throw .failed(program: program, why: "it did not answer the command \(command) in \(Int(seconds)) s")
            }
            _ = Polling.wait(for: [.init(output.raw)], seconds: min(left, 1))
        }
    }

    /// Reads what QEMU has sent so far.
    package func pump() throws(EmulatorError) {
        while !isEnded {
            var bytes: [UInt8] = []
            switch output.raw.readAvailable(into: &bytes) {
            case .wouldBlock: return
            case .ended: isEnded = true
            case .moved:
                let values: [QMPValue]
                do { values = try lines.take(bytes) } catch {
                    throw .failed(program: program, why: "its messages cannot be understood")
                }
                for value in values { keep(QMPMessage(value)) }
            }
        }
    }

    private func keep(_ message: QMPMessage) {
        switch message {
        case .event(let event): if events.count < Self.keptEventCount { events.append(event) }
        case .success, .failure: if answers.count < Self.keptEventCount { answers.append(message) }
        case .greeting, .other: break
        }
    }

    /// The events since the last call.
    package func takeEvents() -> [QMPEvent] {
        defer { events.removeAll() }
        return events
    }
}
