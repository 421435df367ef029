// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Emulator

@Suite struct QemuImageTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> FilePath { scratch.path.appending(name) }

    @Test func textsOfQEMU() {
        #expect(QemuText.json("a\"b\\c\nd") == #""a\"b\\c\u000ad""#)
        #expect(QemuText.plainPath("nbd:host") == "./nbd:host")
        #expect(QemuText.plainPath("/a:b") == "/a:b")
        #expect(QemuText.progress("    (12.34/100%)") == 12.34)
        for text in ["", "(12/100", "(x/100%)", "(200/100%)", "(-1/100%)", "error (1/100%)"] {
            #expect(QemuText.progress(text) == nil)
        }
        let lines = ["    (1.00/100%)", "qemu-img: no", " "]
        #expect(QemuText.message(lines, program: .image) == "no")
    }

    @Test func anImageIsMadeAndConverted() throws {
        try Files.write((0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 >> 9) }, to: path("raw"))
        var shown: [Double] = []
        try QemuImage.convert(
            from: path("raw").string, to: path("a.qcow2"), format: "qcow2", options: ["compat=1.1"],
            progress: { shown.append($0) }, cancellation: Cancellation())
        #expect(shown.last == 1 && shown == shown.sorted())
        try QemuImage.create(format: "qcow2", path: path("b.qcow2"), byteCount: 1 << 20)
        #expect(try Files.read(path("b.qcow2"), limit: 32)[24..<32] == [0, 0, 0, 0, 0, 0x10, 0, 0])
        let same = try ChildProcess.run(
            ["qemu-img", "compare", "-U", "-f", "raw", "-F", "qcow2", path("raw").string, path("a.qcow2").string])
        #expect(same.succeeded, "\(same.lastWords)")
    }

    @Test func whatFailsIsSaid() {
        #expect(throws: EmulatorError.self) {
            try QemuImage.create(format: "no-such-format", path: path("x"), byteCount: 1 << 20)
        }
        do {
            try QemuImage.convert(
                from: path("missing").string, to: path("x"), format: "qcow2", cancellation: Cancellation())
            Issue.record("it was converted")
        } catch { #expect("\(error)".contains("missing"), "\(error)") }
    }

    @Test func anAttachedProgramIsEnded() throws {
        let program = try AttachedProgram(["sleep", "100"], deathSignal: .kill)
        #expect(program.ending == nil)
        #expect(program.end(withinSeconds: 5) == .signalled(15))
        let stubborn = try AttachedProgram(
            ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], deathSignal: .kill)
        SystemFacts.sleep(seconds: 0.3)
        #expect(stubborn.end(withinSeconds: 0.3) == .signalled(9))
        let talking = try AttachedProgram(["sh", "-c", "echo one; echo two >&2; exit 3"], deathSignal: .kill)
        #expect(talking.wait(seconds: 10) == .exited(3) && talking.lines == ["one", "two"])
        // ESC, and its other form U+009B: the serial console of a hostile machine ends up on a terminal.
        let hostile = try AttachedProgram(["printf", "a\\033[1m\\302\\2331mb"], deathSignal: .kill)
        #expect(hostile.wait(seconds: 10) == .exited(0) && hostile.lines == ["a[1m1mb"])
        #expect(throws: EmulatorError.self) { try AttachedProgram(["/nowhere/program"], deathSignal: .kill) }
    }

    /// The signal of the kernel comes with the end of the thread, as with the end of the process.
    @Test func aProgramDiesWithItsThread() throws {
        let started = Monitor<Int32>(0)
        let thread = try WorkerThread {
            do {
                let child = try ChildProcess(["sleep", "100"], deathSignal: .kill)
                let processID = child.processID
                started.update { $0 = processID }
            } catch {}
        }
        thread.join()
        let processID = started.update { $0 }
        #expect(processID > 0)
        /// Its parent, this process, has not asked for its end: it stays as a zombie.
        func hasEnded() -> Bool {
            Files.text(FilePath("/proc/\(processID)/stat"))?.split(separator: ")").last?.contains("Z") ?? true
        }
        for _ in 0..<500 where !hasEnded() { SystemFacts.sleep(seconds: 0.01) }
        #expect(hasEnded())
    }

    @Test func aFolderThatWasLeftIsRemoved() throws {
        let left = try Files.makeTemporaryFolder("reforge-qemu", in: PrivateFolder().path.removingLastComponent())
        // Another test may have found it already.
        try? Files.write([1], to: left.appending("pid"))
        let held = try PrivateFolder()
        #expect(!Files.exists(left))
        let other = try PrivateFolder()
        #expect(Files.exists(held.path) && Files.exists(other.path) && held.path != other.path)
    }
}
