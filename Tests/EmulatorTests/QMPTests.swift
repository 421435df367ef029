// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Emulator

@Suite struct QMPTests {
    private func messages(_ text: String) throws -> [QMPMessage] {
        var lines = JSONLines()
        return try lines.take(Array(text.utf8)).map(QMPMessage.init)
    }

    @Test func messagesOfEachKind() throws {
        let text = """
            {"QMP": {"version": {}, "capabilities": ["oob"]}}\r
            {"return": {}, "id": 1}\r
            {"id": 2, "error": {"class": "GenericError", "desc": "Device not found"}}
            {"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true}}
            {"something": 1}

            """
        let data = QMPValue.object(["guest": .bool(true)])
        #expect(
            try messages(text) == [
                .greeting, .success(command: 1, .object([:])), .failure(command: 2, why: "Device not found"),
                .event(QMPEvent(name: "SHUTDOWN", data: data)), .other,
            ])
    }

    @Test func aMessageMayArriveInPieces() throws {
        var lines = JSONLines()
        var values: [QMPValue] = []
        for part in ["{\"return\"", ": {}, \"id\": 7}", "\n"] {
            #expect(values.isEmpty)
            values += try lines.take(Array(part.utf8))
        }
        #expect(values.map(QMPMessage.init) == [.success(command: 7, .object([:]))])
    }

    @Test(arguments: [
        "{\"return\": \n", "nonsense\n", "{\"id\": 99999999999999999999999999\n", "\u{FF}\u{FE}\n", "{]\n",
    ]) func hostileLinesAreErrors(_ text: String) {
        #expect(throws: (any Error).self) { try messages(text) }
    }

    @Test func deepNestingIsAnError() {
        #expect(throws: (any Error).self) { try messages(String(repeating: "[", count: 100_000) + "\n") }
    }

    @Test func aLineWithoutEndIsRefused() throws {
        var lines = JSONLines(limit: 1000)
        #expect(throws: JSONLines.Failure.self) { try lines.take([UInt8](repeating: 0x20, count: 1001)) }
    }

    @Test func numbersBeyondTheirRangeAreNoCommands() throws {
        #expect(try messages("{\"return\": {}, \"id\": 1.5}\n{\"return\": {}, \"id\": \"1\"}\n") == [.other, .other])
    }

    @Test func eventsAboutTheGuest() {
        let byGuest = QMPValue.object(["guest": .bool(true)])
        let byHost = QMPValue.object(["guest": .bool(false)])
        #expect(BootWatch.observation(of: .init(name: "RESET", data: byGuest)) == .restart)
        #expect(BootWatch.observation(of: .init(name: "RESET", data: byHost)) == nil)
        #expect(BootWatch.observation(of: .init(name: "SHUTDOWN", data: byGuest)) == .powerOff)
        #expect(BootWatch.observation(of: .init(name: "GUEST_PANICKED")) == .panic)
        // A machine that QEMU or KVM has stopped shows its login for ever.
        #expect(BootWatch.observation(of: .init(name: "STOP")) == .stop)
    }

    @Test func theAgentAnswersOnlyItsQuestion() {
        var agent = GuestAgent()
        let question = String(decoding: agent.question(), as: UTF8.self)
        #expect(question.contains("guest-ping") && question.contains("{\"id\":1}"))
        func answers(_ text: String) -> [String] { agent.take(Array(text.utf8)) }
        // A forged answer without the number, then the true ones.
        var found = answers("{\"return\": {}}\n{\"return\": 5}\n")
        found += answers("{\"return\": 1}\n{\"return\": {}}\n")
        #expect(found.isEmpty)
        found = answers("{\"return\": {\"pretty-name\": \"Debian\"}}\n")
        #expect(found == ["Debian"])
        _ = agent.question()
        found = answers("{\"return\": 2}\n{\"return\": {}}\n{\"error\": {}}\n")
        #expect(found == [""])
        _ = agent.question()
        found = answers("garbage\n{\"return\": 3}\n")
        #expect(found.isEmpty)
        // One character, as Swift counts them.
        _ = agent.question()
        let long = "a" + String(repeating: "\u{301}", count: 10_000)
        found = answers("{\"return\": 4}\n{\"return\": {}}\n{\"return\": {\"pretty-name\": \"\(long)\"}}\n")
        #expect(found.map(\.unicodeScalars.count) == [80])
    }
}
