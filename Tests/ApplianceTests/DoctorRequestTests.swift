// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import TestSupport
import Testing

@testable import Appliance
@testable import LinuxSystem

/// T0: the agent's report on a disk, which the host reads strictly.
struct DoctorRequestTests {
    private static let question = DoctorQuestion(subject: "laptop.img.zst", firmware: .bios)

    private static func report() throws -> [UInt8] {
        let survey = SystemBootSurvey(
            disk: DiskIdentity(path: "/dev/vda"), byteCount: 1 << 30, tableKind: .none, firmware: .bios,
            access: .none)
        let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)
        return try DoctorReport(survey, options: options, subject: "something else").json()
    }

    /// What the host makes of these answers.
    private func ask(_ replies: [AgentReply]) throws -> DoctorReport {
        let pair = try OwnedDescriptor.socketPair()
        let own = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: Cancellation())
        let end = pair.other
        // A socket holds less than the longest answer.
        let agent = try WorkerThread {
            let other = AgentChannel(OwnedDescriptor(owning: end), cancellation: Cancellation())
            for reply in [.hello(kernel: "6.1")] + replies where (try? other.send(reply.frame)) == nil { return }
            // The end of the stream is the session's.
            _ = try? other.receive(withinSeconds: 10)
        }
        defer { agent.join() }
        let session = try ApplianceSession(peer: own)
        defer { session.close() }
        return try session.diagnose(Self.question)
    }

    @Test func aReportArrivesInPieces() throws {
        let bytes = try Self.report()
        let half = bytes.count / 2
        let report = try ask([
            .data(offset: 0, Array(bytes[..<half])), .data(offset: UInt64(half), Array(bytes[half...])), .done,
        ])
        #expect(report.findings.map(\.code) == ["table-missing"] && report.stops)
        #expect(report.subject == "laptop.img.zst", "the subject is the host's")
    }

    @Test func otherAnswersAreRefused() throws {
        let bytes = try Self.report()
        let answers: [[AgentReply]] = [
            [.done], [.data(offset: 1, bytes), .done], [.data(offset: 0, bytes), .data(offset: 0, bytes), .done],
            [.data(offset: 0, Array(bytes.dropLast())), .done], [.data(offset: 0, []), .done], [.mounted(1)],
            [.data(offset: 0, Array("{\"schema\":1}".utf8)), .done],
            (0...20).map { .data(offset: UInt64($0 << 18), [UInt8](repeating: 32, count: 1 << 18)) },
        ]
        for answer in answers { #expect(throws: ApplianceError.self) { try ask(answer) } }
        #expect(throws: ApplianceError.self) { try ask([.failed(code: 0, text: "the disk could not be read")]) }
    }

    @Test func folderHasNoDisk() throws {
        let session = try ApplianceSession(folders: ["/"], cancellation: Cancellation())
        defer { session.close() }
        #expect(throws: ApplianceError.self) { try session.diagnose(Self.question) }
        #expect(try session.volumes().count == 1, "the session is still in use")
    }

    @Test func questionsThatAreNone() {
        for text in ["", "{}", "[]", "{\"subject\":\"x\",\"firmware\":\"efi\"}"] {
            #expect(throws: DoctorError.self) { try DoctorQuestion(json: Array(text.utf8)) }
        }
        #expect(throws: DoctorError.self) {
            try DoctorQuestion(json: [UInt8](repeating: 32, count: DoctorQuestion.longestJSON + 1))
        }
    }
}
