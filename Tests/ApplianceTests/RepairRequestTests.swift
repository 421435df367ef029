// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import TestSupport
import Testing

@testable import Appliance
@testable import LinuxSystem

/// T0: the agent's answer about a disk that it may write to.
struct RepairRequestTests {
    private static let question = DoctorQuestion(
        subject: "a.qcow2", machine: Hypervisor.kvm.machine(firmware: .bios), firmware: .bios)

    private static func answer(_ change: (inout RepairAnswer) -> Void = { _ in }) throws -> [UInt8] {
        let survey = SystemBootSurvey(
            disk: DiskIdentity(path: "/dev/vda"), byteCount: 1 << 30, tableKind: .none, firmware: .bios,
            access: .none)
        let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)
        var answer = RepairAnswer(before: DoctorReport(survey, options: options, subject: "x"))
        change(&answer)
        return try answer.json()
    }

    /// What the host makes of these answers.
    private func ask(_ replies: [AgentReply], isWritable: Bool = true) throws -> (answer: RepairAnswer, lines: [String])
    {
        let pair = try OwnedDescriptor.socketPair()
        let own = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: Cancellation())
        let end = pair.other
        let agent = try WorkerThread {
            let other = AgentChannel(OwnedDescriptor(owning: end), cancellation: Cancellation())
            for reply in [.hello(kernel: "6.1")] + replies where (try? other.send(reply.frame)) == nil { return }
            _ = try? other.receive(withinSeconds: 10)
        }
        defer { agent.join() }
        let session = try ApplianceSession(peer: own, isWritable: isWritable)
        defer { session.close() }
        var lines: [String] = []
        return (try session.repair(Self.question) { lines.append($0) }, lines)
    }

    @Test func anAnswerComesBehindItsLines() throws {
        let bytes = try Self.answer { $0.changed = ["rebuilt /boot/initrd.img-1"] }
        let half = bytes.count / 2
        let found = try ask([
            .log("looking"), .log("rebuilding"), .data(offset: 0, Array(bytes[..<half])),
            .data(offset: UInt64(half), Array(bytes[half...])), .done,
        ])
        #expect(found.lines == ["looking", "rebuilding"])
        #expect(found.answer.changed == ["rebuilt /boot/initrd.img-1"] && found.answer.failure == nil)
        #expect(found.answer.findings.map(\.code) == ["table-missing"])
        #expect(found.answer.before.subject == "a.qcow2", "the subject is the host's")
    }

    @Test func otherAnswersAreRefused() throws {
        let bytes = try Self.answer()
        let hostile = try Self.answer { $0.pending = "\u{1B}[2J" }
        let answers: [[AgentReply]] = [
            [.done], [.data(offset: 1, bytes), .done], [.data(offset: 0, bytes), .log("late"), .done],
            [.data(offset: 0, Array(bytes.dropLast())), .done], [.mounted(1)], [.entry(FrameTests.entry("a"))],
            [.data(offset: 0, hostile), .done], [.data(offset: 0, Array("{}".utf8)), .done],
        ]
        for answer in answers { #expect(throws: ApplianceError.self) { try ask(answer) } }
        #expect(throws: ApplianceError.self) { try ask([.failed(code: 0, text: "no")]) }
        // Lines belong to repairs.
        #expect(throws: ApplianceError.self) { try ask([.data(offset: 0, bytes), .done], isWritable: false) }
    }

    /// An agent outside the appliance would write to disks of this machine.
    @Test func onlyTheApplianceRepairs() throws {
        let volumes = DiskVolumes(["/dev/null"], folder: "/run/reforge-none")
        let question = try Self.question.json()
        for volumes in [volumes as any AgentVolumes, FolderVolumes(["/"])] {
            let error = #expect(throws: ApplianceError.self) { try volumes.repair(0, question) { _ in } }
            if case .refused = error {} else { Issue.record("\(String(describing: error))") }
        }
        let session = try ApplianceSession(folders: ["/"], cancellation: Cancellation())
        defer { session.close() }
        #expect(throws: ApplianceError.self) { try session.repair(Self.question) { _ in } }
        #expect(throws: ApplianceError.self) { try session.finish() }
        #expect(try session.volumes().count == 1, "the session is still in use")
    }
}
