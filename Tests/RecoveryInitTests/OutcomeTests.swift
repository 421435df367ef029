// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import TestSupport
import Testing

@testable import RecoveryInit

@Suite struct OutcomeTests {
    private static let disk = DiskCandidate(
        identity: DiskIdentity(path: "/dev/sda", kernelName: "sda", serial: "S1"), byteCount: 1 << 30)
    private static let settings = Array(#"{"restore": "LABEL=A:/b", "target": "only"}"#.utf8)

    /// 80 columns, the verdict in a word, and the sentence last.
    @Test(
        arguments: [(0, "DONE: ok"), (70, "NOT FINISHED: ok"), (74, "NOT DONE: ok"), (139, "NOT DONE: ok")]
            as [(Int32, String)])
    func bannerSaysHowItEnded(status: Int32, words: String) {
        let banner = JobOutcome(status, "ok").banner
        var filter = EscapeFilter()
        let plain = String(decoding: filter.plain(Array(banner.utf8)), as: UTF8.self)
        #expect(banner != plain)
        let lines = plain.split(separator: "\n")
        #expect(lines.count == 3 && lines[1] == words && lines.allSatisfy { $0.count <= 80 })
    }

    @Test func sequencesInPiecesStayOutOfTheLog() {
        let text = Array("a\u{1B}[1;31mNOT DONE\u{1B}[0m: \u{1B}[31\nb\u{1B}".utf8)
        for cut in 0...text.count {
            var filter = EscapeFilter()
            #expect(
                filter.plain(Array(text[..<cut])) + filter.plain(Array(text[cut...])) == Array("aNOT DONE: \nb".utf8))
        }
    }

    @Test func aMarkIsOfTheseSettingsOnly() throws {
        let job = try #require(try RecoverySettings.parse(json: Self.settings).job)
        let mark = JobMark(
            settings: Self.settings, job: job,
            outcome: JobOutcome(0, "", disk: Self.disk, imageID: "00aabbccddeeff001122"))
        #expect(mark.line.contains("restore of LABEL=A:/b (id 00aabbccddeeff00...), disk /dev/sda"))
        #expect(mark.line.contains("serial=S1") && mark.line.hasSuffix("with status 0"))
        let bytes = try mark.bytes()
        #expect(JobMark.find(bytes, settings: Self.settings) == .done(mark))
        #expect(JobMark.find(bytes, settings: Self.settings + [10]) == .none)
        // Cut off by a power cut: it may be of this job.
        #expect(JobMark.find(Array(bytes.dropLast(3)), settings: Self.settings) == .unreadable)
        #expect(JobMark.find([], settings: Self.settings) == .unreadable)
    }

    @Test func onlyWhatIsCompleteIsMarked() {
        let complete = [0, 64, 65, 66, 70, 73, 74, 75, 77, 78, 139].filter { JobOutcome($0, "").isDataComplete }
        #expect(complete == [0, 70])
    }

    @Test func jobIDIsASettingOfRestores() throws {
        let line = "reforge.restore=http://a/b reforge.target=only reforge.job-id=lab-1"
        let settings = try #require(try RecoverySettings.parse(commandLine: line))
        guard case .restore(let restore)? = settings.job else { throw JobFailure(.usage, "no restore") }
        #expect(restore.jobID == "lab-1")
        let disk = DiskCandidate(identity: DiskIdentity(path: "/dev/sda"), byteCount: 1)
        let job = try JobTests.restore(RestoreJob.job("-", restore, disk, confirmed: true, streamed: true))
        #expect(job.jobID == "lab-1" && job.expectedDiskSequence == nil)
        // At the time of the restore, the name may denote another disk.
        let known = DiskCandidate(identity: DiskIdentity(path: "/dev/sda", diskSequence: 7), byteCount: 1)
        let named = try JobTests.restore(RestoreJob.job("-", restore, known, confirmed: true, streamed: true))
        #expect(named.expectedDiskSequence == 7)
        #expect(throws: JobFailure.self) { try RecoverySettings.parse(commandLine: line + "/..") }
        #expect(throws: JobFailure.self) {
            try RecoverySettings.parse(commandLine: "reforge.capture=only reforge.to=LABEL=A:/b reforge.job-id=x")
        }
    }

    @Test func repeatIsASetting() throws {
        let text = #"{"restore": "LABEL=A:/b", "target": "only", "repeat": true}"#
        #expect(try RecoverySettings.parse(json: Array(text.utf8)).repeats)
        #expect(try !RecoverySettings.parse(json: Self.settings).repeats)
        let alone = Array(#"{"repeat": true}"#.utf8)
        #expect(refusal { () throws(JobFailure) in try RecoverySettings.parse(json: alone) }?.status == .usage)
    }
}
