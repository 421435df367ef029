// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import Emulator

/// A start as it is seen: what happens at which second.
private struct Script {
    private var judge: BootJudge
    private(set) var verdict: BootVerdict?

    init(expecting expected: String? = nil, timeout: Double = 300) {
        judge = BootJudge(BootJudge.Limits(timeout: timeout), expecting: expected)
    }

    mutating func at(_ seconds: Double, _ observation: BootJudge.Observation) {
        guard verdict == nil else { return }
        judge.take(observation, at: seconds)
        verdict = judge.verdict(at: seconds)
    }

    mutating func serial(_ seconds: Double, _ text: String) { at(seconds, .output(.serial, Array(text.utf8))) }

    mutating func screen(_ seconds: Double, _ rows: [String]?, hasChanged: Bool = true, isBlue: Bool = false) {
        at(seconds, .screen(.init(rows: rows, hasChanged: hasChanged, isBlue: isBlue)))
    }

    /// Nothing more happens until that second.
    func verdict(at seconds: Double) -> BootVerdict? { verdict ?? judge.verdict(at: seconds) }
}

private let kernel = "[    0.000000] Linux version 6.1.0\r\n[    1.200000] Run /init as init process\r\n"
private let getty = "\r\nDebian GNU/Linux 12 web1 ttyS0\r\n\r\nweb1 login: "

@Suite struct BootJudgeTests {
    @Test func aLoginOnTheSerialLineIsProofOnceItHolds() {
        var script = Script()
        script.serial(5, kernel)
        script.serial(20, getty)
        #expect(script.verdict(at: 25) == nil)
        #expect(script.verdict(at: 31) == .proven(.serialLogin(prompt: "web1 login:")))
    }

    @Test func aMessageOfTheKernelBehindThePromptTakesNothingBack() {
        var script = Script()
        script.serial(20, kernel + getty + "[   25.123456] random: crng init done\r\n")
        #expect(script.verdict(at: 31) == .proven(.serialLogin(prompt: "web1 login:")))
    }

    @Test func aPromptThatOtherOutputFollowsIsNone() {
        var script = Script()
        script.serial(20, kernel + getty)
        script.serial(25, "\r\nStopping all services\r\n")
        #expect(script.verdict(at: 40) == nil)
        #expect(script.verdict(at: 300) == .notProven(.timeout))
    }

    @Test func aPanicAfterTheLoginTakesItBack() {
        var script = Script()
        script.serial(20, kernel + getty)
        script.serial(26, "[   26.000000] Kernel panic - not syncing: Attempted to kill init!\r\n")
        #expect(script.verdict(at: 30) == nil)
        #expect(script.verdict(at: 32) == .notProven(.kernelPanic))
    }

    @Test func aRestartTakesTheSignBackAndALoopIsNamed() {
        var script = Script()
        script.serial(20, kernel + getty)
        script.at(26, .restart)
        #expect(script.verdict(at: 60) == nil)
        for second in [70.0, 80, 90] { script.at(second, .restart) }
        #expect(script.verdict == .notProven(.restarts))
    }

    @Test func aMachineThatIsStoppedHasNoSign() {
        var script = Script()
        script.serial(20, kernel + getty)
        script.at(26, .stop)
        #expect(script.verdict(at: 60) == .notProven(.stopped))
    }

    @Test func aMachineThatSwitchesItselfOffHasNotStarted() {
        var script = Script()
        script.serial(20, kernel + getty)
        script.at(26, .powerOff)
        #expect(script.verdict == .notProven(.poweredOff))
    }

    @Test func anAgentMustAnswerAgain() {
        var script = Script()
        script.at(30, .agent(system: "Debian GNU/Linux 12"))
        #expect(script.verdict(at: 50) == nil)
        script.at(42, .agent(system: nil))
        #expect(script.verdict == .proven(.agent(system: "Debian GNU/Linux 12")))
    }

    @Test func anAgentThatFallsSilentProvesNothing() {
        var script = Script()
        script.at(30, .agent(system: nil))
        #expect(script.verdict(at: 320) == nil)
        #expect(script.verdict(at: 331) == .notProven(.timeout))
    }

    @Test func aBlueDesktopIsNoCrashWhileTheAgentAnswers() {
        var script = Script()
        script.at(30, .agent(system: nil))
        script.screen(31, nil, isBlue: true)
        script.at(41, .agent(system: nil))
        #expect(script.verdict == .proven(.agent(system: nil)))
    }

    @Test func aBlueScreenIsAStopSign() {
        var script = Script()
        script.screen(40, nil, isBlue: true)
        #expect(script.verdict(at: 50) == nil)
        #expect(script.verdict(at: 56) == .notProven(.blueScreen))
    }

    @Test func aLoginOnTheScreen() {
        var script = Script()
        script.screen(40, ["Debian GNU/Linux 12 web1 tty1", "", "web1 login: _", "", ""])
        script.screen(42, ["Debian GNU/Linux 12 web1 tty1", "", "web1 login:", "", ""], hasChanged: false)
        #expect(script.verdict(at: 51) == .proven(.screenLogin(prompt: "web1 login:")))
    }

    @Test(arguments: [
        (["error: no such partition.", "Entering rescue mode...", "grub rescue> _"], BootVerdict.Reason.grubRescue),
        (["   Minimal BASH-like line editing is supported.", "", "grub> "], .grubPrompt),
        (["Gave up waiting for root file system device.", "(initramfs) _"], .initramfsShell),
        (["Warning: dracut-initqueue timeout", "dracut:/# "], .initramfsShell),
        (["You are in emergency mode. After logging in, type", "Press Enter for maintenance"], .emergencyMode),
        (["Booting from Hard Disk...", "No bootable device."], .noBootableDevice),
        (["UEFI Interactive Shell v2.2", "Shell> _"], .firmwareShell),
        (["---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---"], .kernelPanic),
    ]) func stopSigns(_ rows: [String], _ reason: BootVerdict.Reason) {
        var onScreen = Script()
        onScreen.screen(30, rows)
        #expect(onScreen.verdict(at: 34) == nil)
        #expect(onScreen.verdict(at: 36) == .notProven(reason))
        var onSerial = Script()
        onSerial.serial(30, rows.joined(separator: "\r\n"))
        #expect(onSerial.verdict(at: 36) == .notProven(reason))
    }

    @Test func aStopSignThatGoesAwayIsForgotten() {
        var script = Script()
        script.screen(10, ["GNU GRUB", "grub> "])
        script.screen(13, ["[    0.000000] Linux version 6.1.0"])
        #expect(script.verdict(at: 30) == nil)
    }

    @Test func firmwareThatFindsTheSystemLaterIsForgiven() {
        var script = Script()
        script.serial(3, "BdsDxe: No bootable option or device was found.\r\n")
        script.serial(5, kernel)
        script.serial(20, getty)
        #expect(script.verdict(at: 31) == .proven(.serialLogin(prompt: "web1 login:")))
    }

    @Test func theExpectedTextDoesNotCountInAMenu() {
        var script = Script(expecting: "web server ready")
        script.screen(5, ["GNU GRUB  version 2.06", "*web server ready", " Advanced options"])
        script.serial(5, "web server ready\r\n")
        script.serial(8, "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz note=\"web server ready\"\r\n")
        script.screen(9, ["[    0.000000] Command line: BOOT_IMAGE=/vmlinuz", "note=\"web server ready\""])
        #expect(script.verdict(at: 200) == nil)
        script.serial(210, "web server ready\r\n")
        #expect(script.verdict(at: 269) == nil)
        #expect(script.verdict(at: 271) == .proven(.expectedText(.serial)))
    }

    @Test func theExpectedTextOnTheScreen() {
        var script = Script(expecting: "nginx: ready")
        script.screen(9, ["[    2.000000] systemd[1]: Detected virtualization"])
        script.screen(30, ["[    2.000000] systemd[1]: Detected virtualization", "nginx: ready"])
        #expect(script.verdict(at: 91) == .proven(.expectedText(.screen)))
    }

    @Test func aLoginBesideTheExpectedTextShortensItsTime() {
        var script = Script(expecting: "nginx: ready")
        script.serial(20, kernel + "nginx: ready\r\n")
        script.serial(40, getty)
        #expect(script.verdict(at: 49) == nil)
        #expect(script.verdict(at: 51) == .proven(.expectedText(.serial)))
    }

    @Test func anExpectedTextAtTheEndOfTheTimeHasTimeToStand() {
        var script = Script(expecting: "nginx: ready", timeout: 30)
        script.serial(29, kernel + "nginx: ready\r\n")
        #expect(script.verdict(at: 88) == nil)
        #expect(script.verdict(at: 89) == .proven(.expectedText(.serial)))
    }

    @Test func withAnExpectedTextNothingElseIsProof() {
        var script = Script(expecting: "nginx: ready")
        script.serial(20, kernel + getty)
        script.at(30, .agent(system: nil))
        script.at(50, .agent(system: nil))
        #expect(script.verdict(at: 299) == nil)
        #expect(script.verdict(at: 301) == .notProven(.timeout))
    }

    @Test func aPanicAfterTheExpectedTextCounts() {
        var script = Script(expecting: "ready")
        script.serial(20, kernel + "ready\r\n")
        script.at(25, .panic)
        #expect(script.verdict(at: 31) == .notProven(.kernelPanic))
    }

    @Test func aPictureThatStaysIsStartedAndNotProven() {
        var script = Script()
        script.screen(60, nil)
        script.screen(100, nil, hasChanged: false)
        #expect(script.verdict(at: 150) == nil)
        #expect(script.verdict(at: 181) == .started)
    }

    @Test func aMenuThatStaysIsNotStarted() {
        var script = Script()
        script.screen(10, ["GNU GRUB  version 2.06", "*Debian GNU/Linux"])
        #expect(script.verdict(at: 250) == nil)
        #expect(script.verdict(at: 301) == .notProven(.timeout))
    }

    @Test func nothingAtAllIsATimeout() {
        var script = Script()
        script.at(2, .screen(.init(rows: nil, hasChanged: true, isBlank: true)))
        #expect(script.verdict(at: 299) == nil)
        #expect(script.verdict(at: 300) == .notProven(.timeout))
    }

    @Test(arguments: ["web1 login: ", "login: ", "a-b.c login: _", "web1 login: [   12.345678] eth0: up"])
    func loginPrompts(_ line: String) { #expect(BootSigns.loginPrompt(line) != nil) }

    @Test(arguments: [
        "Last login: Mon Nov 30", "web1 login: root", "please now login: ", "the last login:", "*Debian login: x",
        " login:", String(repeating: "a", count: 300) + " login:",
    ]) func otherLines(_ line: String) { #expect(BootSigns.loginPrompt(line) == nil) }
}
