// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair

extension ApplianceSession {
    /// Why a disk of the machine does not start, and what repairs it.
    /// - Parameter disk: its position in the session's list.
    /// - Throws: `untrusted` for a report that no agent sends.
    package func diagnose(_ question: DoctorQuestion, disk: UInt32 = 0) throws(ApplianceError) -> DoctorReport {
        let text: [UInt8]
        do { text = try question.json() } catch { throw .refused("the machine's record cannot be sent: \(error)") }
        try ask(.doctor(disk: disk, question: text))
        let bytes = try answer(limit: DoctorReport.longestJSON, mostLines: 0)
        do throws(DoctorError) {
            var report = try DoctorReport(json: bytes)
            report.subject = question.subject
            report.machine = question.machine?.name
            return report
        } catch { throw .untrusted("a report that is none: \(error)") }
    }

    /// Makes a disk that the machine may write to start on the machine of the question.
    /// - Parameter log: receives what is done.
    /// - Throws: `failed` or `refused` if nothing was changed; after any other error the disk must not be used.
    package func repair(_ question: DoctorQuestion, log: (String) -> Void) throws(ApplianceError) -> RepairAnswer {
        guard isWritable else { throw .refused("disks are only read here") }
        let text: [UInt8]
        do { text = try question.json() } catch { throw .refused("the machine's record cannot be sent: \(error)") }
        try ask(.repair(disk: 0, question: text))
        let bytes = try answer(limit: RepairAnswer.longestJSON, mostLines: Self.mostLines, log)
        do throws(DoctorError) {
            var answer = try RepairAnswer(json: bytes)
            answer.before.subject = question.subject
            answer.after?.subject = question.subject
            return answer
        } catch { throw .untrusted("an answer that is none: \(error)") }
    }

    /// More lines than programs of an installed system write.
    private static let mostLines = 200_000

    /// The bytes of an answer, which come in pieces.
    private func answer(
        limit: Int, mostLines: Int, _ log: (String) -> Void = { _ in }
    ) throws(ApplianceError) -> [UInt8] {
        var bytes: [UInt8] = []
        var lineCount = 0
        while true {
            switch try reply() {
            case .log(let line):
                lineCount += 1
                guard bytes.isEmpty, lineCount <= mostLines else { throw .untrusted("a line too many") }
                log(line)
            case .data(let offset, let piece):
                guard offset == UInt64(bytes.count), !piece.isEmpty, piece.count <= limit - bytes.count else {
                    throw .untrusted("a report out of order")
                }
                bytes += piece
            case .done: return bytes
            default: throw .untrusted("an answer to another request")
            }
        }
    }
}
