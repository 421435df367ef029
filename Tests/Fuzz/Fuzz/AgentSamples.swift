// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import BootRepair
import DiskModel

extension Samples {
    /// Frames between the host and the appliance's agent.
    static var agentFrames: [[UInt8]] {
        get throws {
            let question = DoctorQuestion(subject: "a.qcow2", machine: Hypervisor.kvm.machine(firmware: .bios))
            let survey = SystemBootSurvey(
                disk: DiskIdentity(path: "a"), byteCount: 1 << 30, tableKind: .none, firmware: .bios, access: .none)
            let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)
            var answer = RepairAnswer(before: DoctorReport(survey, options: options, subject: "a"))
            (answer.after, answer.changed, answer.pending) = (answer.before, ["rebuilt it"], "nothing")
            let requests: [AgentRequest] = [
                .keys([[1, 2]]), .volumes, .mount(volume: 1, .named([64])), .walk(.init(mount: 0, path: [47])),
                .repair(disk: 0, question: try question.json()),
            ]
            let replies: [AgentReply] = [
                .hello(kernel: "6.1"), .log("looking"), .data(offset: 0, try answer.json()), .done,
                .failed(code: 5, text: "EIO"), .extents([0..<4, 8..<9]),
            ]
            return requests.map(\.frame.bytes) + replies.map(\.frame.bytes)
        }
    }
}
