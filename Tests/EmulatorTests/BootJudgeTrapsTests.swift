// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Emulator

/// Starts that look like proof for a while.
@Suite struct BootJudgeTrapsTests {
    private static let kernel = "[    0.000000] Linux version 6.1.0\r\n[    1.200000] Run /init as init process\r\n"

    private func judge(expecting expected: String? = nil) -> BootJudge {
        BootJudge(BootJudge.Limits(timeout: 300), expecting: expected)
    }

    @Test func aMenuThatWasNeverSeenBeforeTheSystemCountsAsLittle() {
        var judge = judge(expecting: "web server ready")
        judge.take(.output(.serial, Array(Self.kernel.utf8)), at: 3)
        // The kernel writes to the serial line only: the screen still shows what the loader has left.
        for second in [4.0, 6, 8] {
            judge.take(
                .screen(.init(rows: ["Booting `web server ready'", "Loading Linux 6.1.0 ..."], hasChanged: false)),
                at: second)
        }
        #expect(judge.verdict(at: 100) == nil)
        #expect(judge.verdict(at: 301) == .notProven(.timeout))
    }

    @Test func whatStandsAboveTheFirstLineOfTheSystemIsTheLoaders() {
        var judge = judge(expecting: "ready")
        judge.take(
            .screen(.init(rows: ["Booting `ready'", "[    0.000000] Linux version 6.1"], hasChanged: true)), at: 4)
        #expect(judge.verdict(at: 100) == nil)
        judge.take(.screen(.init(rows: ["[    9.000000] systemd[1]: up", "nginx: ready"], hasChanged: true)), at: 110)
        #expect(judge.verdict(at: 171) == .proven(.expectedText(.screen)))
    }

    @Test func aQuietStartShowsItsTextWithItsLogin() {
        var judge = judge(expecting: "Debian GNU/Linux 12")
        judge.take(.screen(.init(rows: ["GNU GRUB  version 2.06", "*Debian GNU/Linux 12"], hasChanged: true)), at: 4)
        #expect(judge.verdict(at: 60) == nil)
        let rows = ["Debian GNU/Linux 12 web1 tty1", "", "web1 login: _"]
        judge.take(.screen(.init(rows: rows, hasChanged: true)), at: 70)
        #expect(judge.verdict(at: 81) == .proven(.expectedText(.screen)))
    }

    @Test(arguments: [
        "[    0.100000] Unknown kernel command line parameters \"note=ready\", will be passed to user space.\r\n",
        "[    2.000000] dracut-cmdline[201]: Using kernel command line parameters: note=ready\r\n",
    ]) func anEchoOfTheCommandLineIsNoSign(_ line: String) {
        var judge = judge(expecting: "ready")
        judge.take(.output(.serial, Array((Self.kernel + line).utf8)), at: 5)
        #expect(judge.verdict(at: 200) == nil)
    }

    @Test(arguments: ["A start job is running for /srv", "Job srv.mount/start running"])
    func aTextBeforeAJobThatNeverEndsIsNoProof(_ job: String) {
        var judge = judge(expecting: "nginx: ready")
        judge.take(.output(.serial, Array((Self.kernel + "nginx: ready\r\n").utf8)), at: 20)
        for second in stride(from: 22.0, to: 60, by: 1) {
            let line = "\r\u{1B}[K[ ***  ] \(job) (\(Int(second))s / no limit)"
            judge.take(.output(.serial, Array(line.utf8)), at: second)
        }
        #expect(judge.verdict(at: 100) == nil)
        var hanging = judge
        hanging.take(.screen(.init(rows: nil, hasChanged: false)), at: 301)
        #expect(hanging.verdict(at: 301) == .notProven(.timeout))
        // It ends after all.
        judge.take(.output(.serial, Array("\r\u{1B}[K[  OK  ] Mounted /srv\r\n".utf8)), at: 110)
        #expect(judge.verdict(at: 165) == nil)
        #expect(judge.verdict(at: 171) == .proven(.expectedText(.serial)))
    }

    @Test(arguments: [
        "🔐 Please enter passphrase for disk data (crypt): (press TAB for no echo) ", "Enter passphrase for /dev/sda3: ",
        "Please unlock disk sda3_crypt: ",
    ]) func aTextBeforeAPassphraseIsNoProof(_ question: String) {
        var judge = judge(expecting: "Debian GNU/Linux")
        let text = Self.kernel + "Welcome to Debian GNU/Linux 12 (bookworm)!\r\n" + question
        judge.take(.output(.serial, Array(text.utf8)), at: 20)
        #expect(judge.verdict(at: 100) == nil)
        #expect(judge.verdict(at: 301) == .notProven(.timeout))
    }

    @Test(arguments: [
        "[  OK  ] Reached target reboot.target - System Reboot.", "[  OK  ] Reached target System Shutdown.",
        "[   25.000000] reboot: System halted",
    ]) func aSystemThatGoesDownTakesItsTextBack(_ line: String) {
        var judge = judge(expecting: "nginx: ready")
        judge.take(.output(.serial, Array((Self.kernel + "nginx: ready\r\n").utf8)), at: 20)
        judge.take(.output(.serial, Array("\(line)\r\n".utf8)), at: 25)
        #expect(judge.verdict(at: 60) == nil)
        judge.take(.restart, at: 61)
        judge.take(.output(.serial, Array((Self.kernel + "nginx: ready\r\n").utf8)), at: 80)
        #expect(judge.verdict(at: 141) == .proven(.expectedText(.serial)))
    }

    @Test func aSignMustHoldWithoutAStopSignBetween() {
        var judge = judge()
        judge.take(.output(.serial, Array((Self.kernel + "\r\nweb1 login: ").utf8)), at: 20)
        judge.take(.screen(.init(rows: ["(initramfs) _"], hasChanged: true)), at: 26)
        judge.take(.screen(.init(rows: ["(initramfs) _"], hasChanged: true)), at: 28)
        judge.take(.screen(.init(rows: ["web1 login:"], hasChanged: true)), at: 30)
        #expect(judge.verdict(at: 32) == nil)
        #expect(judge.verdict(at: 39) == .proven(.serialLogin(prompt: "web1 login:")))
    }

    @Test func theEndOfALogIsKept() {
        var log = LogTail(limit: 4)
        for byte in UInt8(0)..<23 { log.append([byte]) }
        #expect(log.bytes == [19, 20, 21, 22])
        log.append([UInt8](0..<9))
        #expect(log.bytes == [5, 6, 7, 8])
    }

    @Test func aProgressLineIsWrittenOver() {
        var text = ConsoleText()
        text.take(Array("one\r\n10 %\r20 %\r\r\nlogin:".utf8))
        #expect(text.lines == ["one", "10 %", "20 %"] && text.current == "login:")
    }

    @Test func aScreenThatNothingHasUsedIsKnown() {
        #expect(ScreenReader.isUntouched(["Guest has not initialized the display (yet)."]))
        #expect(!ScreenReader.isUntouched(["Booting from Hard Disk..."]) && !ScreenReader.isUntouched(nil))
    }
}
