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
        var bytes: [UInt8] = []
        while true {
            switch try reply() {
            case .data(let offset, let piece):
                guard offset == UInt64(bytes.count), !piece.isEmpty,
                    piece.count <= DoctorReport.longestJSON - bytes.count
                else { throw .untrusted("a report out of order") }
                bytes += piece
            case .done:
                do throws(DoctorError) {
                    var report = try DoctorReport(json: bytes)
                    report.subject = question.subject
                    report.machine = question.machine?.name
                    return report
                } catch { throw .untrusted("a report that is none: \(error)") }
            default: throw .untrusted("an answer to another request")
            }
        }
    }
}
