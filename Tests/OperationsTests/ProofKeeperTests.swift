// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Emulator
@testable import ImageModel
@testable import Operations
@testable import Repository

/// Where the verdict of `prove` is kept.
@Suite(.enabled(if: ChildProcess.canFind("qemu-img"), "needs qemu-img"))
struct ProofKeeperTests: OperationSuite {
    let scratch: ScratchFolder
    let events = KeptEvents()
    init() throws { scratch = try ScratchFolder() }

    private func booted(_ text: String) throws -> BootedImage { try BootedImage(text, MachineOptions(), keys()) }

    private var trial: ProofTrial {
        var trial = ProofTrial(started: "2026-02-03T04:05:06Z")
        (trial.seconds, trial.qemuVersion) = (42.5, "7.2.22")
        (trial.screen, trial.serialLog, trial.rows) = ([0x89, 0x50], Array("web1 login: ".utf8), ["a", "", ""])
        return trial
    }

    private let proven = BootVerdict.proven(.serialLogin(prompt: "web1 login:"))

    private func keeper(_ image: BootedImage, _ folder: String? = nil) -> ProofKeeper {
        ProofKeeper(image, folder.map { FilePath(path($0)) }, toolVersion: "1.0", keys())
    }

    @Test func aVerdictIsStoredWithItsSnapshotAndInAFolder() throws {
        try makeRepository()
        let id = try capture("repo@")
        let image = try booted("\(path("repo"))@latest")
        defer { image.end() }
        try Files.makeFolders(FilePath(path("out")))
        let places = keeper(image, "out").keep(trial, proven, expecting: nil)
        #expect(places.proof == path("repo") && places.files.count == 3 && places.problems.isEmpty)
        let facts = try #require(
            try SnapshotsOperation(SnapshotsJob(repository: path("repo")), keys: keys(), events: events).run()
                .snapshots.first?.proofs.last)
        #expect(facts.verdict == .proven && facts.imageID == id.description && facts.seconds == 42)
        #expect(facts.sign == "serial-login: a login on a serial line: “web1 login:”")
        #expect(facts.qemuVersion == "7.2.22" && facts.firmware == "bios" && facts.toolVersion == "1.0")
        let saved = try ProofFiles(in: FilePath(path("out"))).read(of: id, image.source.identity)
        #expect(saved?.facts == facts && saved?.screenshot == trial.screen && saved?.serialLog == trial.serialLog)
        var job = ProveJob(image: "x")
        job.output = path("out")
        #expect(ProveReport(job, image, proven, trial).screenText == ["a"])
    }

    @Test func aPlaceThatTakesNothingHidesNoVerdict() throws {
        _ = try capture("disk.img.zst")
        let image = try booted(path("disk.img.zst"))
        defer { image.end() }
        // A folder in place of the file cannot be replaced.
        try Files.makeFolders(FilePath(path("disk.img.zst.proof.json")))
        try Files.write([], to: FilePath(path("out")))
        let places = keeper(image, "out").keep(trial, .started, expecting: nil)
        #expect(places.proof == nil && places.files.isEmpty && places.problems.count == 2)
        #expect(events.notices.filter { $0.code == "proof-not-stored" }.count == 2)
    }

    @Test func aDamagedImageIsNoLongerProven() throws {
        _ = try capture("disk.img.zst")
        let image = try booted(path("disk.img.zst"))
        defer { image.end() }
        let keeper = keeper(image)
        #expect(keeper.keep(trial, proven, expecting: nil).problems.isEmpty)
        func last() throws -> RestoreProof.Facts? {
            try InspectOperation(InspectJob(disk: path("disk.img.zst")), keys: keys(), events: events).run().proof
        }
        #expect(try last()?.verdict == .proven)
        // Another failure says nothing about the image.
        keeper.keep(trial, failed: JobFailure(.ioError, "QEMU ended"))
        #expect(try last()?.verdict == .proven)
        keeper.keep(trial, failed: JobFailure(.badImage, "a chunk is damaged"))
        #expect(try last()?.verdict == .notProven && last()?.sign == "image-damaged: a chunk is damaged")
    }

    @Test func anOverlayIsNotItsBase() throws {
        _ = try capture("disk.img.zst")
        let base = try booted(path("disk.img.zst"))
        let overlay = FilePath(path("trial.qcow2"))
        try QemuOverlay.create(overlay, byteCount: base.source.disk.byteCount)
        try OverlayRecord(base.source).write(beside: overlay)
        base.end()
        let image = try booted(overlay.string)
        defer { image.end() }
        try Files.makeFolders(FilePath(path("out")))
        let places = keeper(image, "out").keep(trial, proven, expecting: nil)
        #expect(places.proof == nil && places.files.count == 3)
        #expect(!Files.exists(FilePath(path("disk.img.zst.proof.json"))))
        let report = ProveReport(ProveJob(image: overlay.string), image, proven, trial)
        #expect(report.image == overlay.string && report.imageID == nil)
    }

    @Test(.enabled(if: ChildProcess.canFind("qemu-storage-daemon"), "needs qemu-storage-daemon"))
    func anOverlayShowsItsBaseAndNoticesItsChanges() throws {
        let (disk, overlay) = (FilePath(path("disk.raw")), FilePath(path("trial.qcow2")))
        try Files.write((0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 / 7) }, to: disk)
        let base = try booted(disk.string)
        try QemuOverlay.create(overlay, byteCount: 1 << 20)
        let record = try OverlayRecord(base.source)
        base.end()
        let opened = try OverlayDisk(overlay, record, keys())
        let bytes = try opened.readBytes(at: 4096, count: 512)
        #expect(bytes == (4096..<4608).map { UInt8(truncatingIfNeeded: $0 / 7) })
        try opened.confirmEnd()
        // A second reader is no conflict, a machine that writes is.
        _ = try OverlayDisk(overlay, record, keys())
        let writer = try FileDescriptor.open(disk, .readWrite)
        try writer.closeAfter { _ = try writer.writeAll(toAbsoluteOffset: 0, [0xFF]) }
        #expect(throws: ImageError.self) { try opened.confirmEnd() }
    }

    @Test func anOverlayInUseIsNamed() {
        let why = "-blockdev {}: Failed to get shared \"write\" lock / Is another process using the image [a]?"
        #expect(EmulatorError.failed(program: "qemu-system-x86_64", why: why).isLocked)
        #expect(!EmulatorError.failed(program: "qemu-system-x86_64", why: "no memory").isLocked)
    }

    @Test func aPasswordThatNothingNeedsIsRefused() throws {
        _ = try capture("disk.img.zst")
        #expect(throws: JobFailure.self) { try BootedImage(path("disk.img.zst"), MachineOptions(), keys("secret")) }
    }

    @Test func aNameThatIsTakenIsLeftAlone() throws {
        _ = try capture("disk.img.zst")
        let kept = FilePath(path("kept.qcow2"))
        let first = try BootedImage(path("disk.img.zst"), MachineOptions(), keep: kept, keys())
        #expect(throws: JobFailure.self) {
            try BootedImage(path("disk.img.zst"), MachineOptions(), keep: kept, keys())
        }
        #expect(Files.exists(kept) && Files.exists(OverlayRecord.path(of: kept)))
        // No machine has written to it.
        first.end()
        #expect(!Files.exists(kept) && !Files.exists(OverlayRecord.path(of: kept)))
        #expect(events.notices.allSatisfy { $0.code != "plain-overlay" })
        _ = try capture("disk.img.enc", "secret")
        let encrypted = try BootedImage(path("disk.img.enc"), MachineOptions(), keep: kept, keys("secret"))
        encrypted.end()
        #expect(events.notices.contains { $0.code == "plain-overlay" })
    }

    @Test(.enabled(if: ChildProcess.canFind("qemu-system-x86_64"), "needs qemu-system-x86_64"))
    func aMachineStartsWhetherKVMWorksOrNot() throws {
        try Files.write([UInt8](repeating: 0, count: 1 << 20), to: FilePath(path("blank.raw")))
        var options = MachineOptions()
        options.memoryByteCount = 64 << 20
        let image = try BootedImage(path("blank.raw"), options, keys())
        defer { image.end() }
        // Twice: the second machine gets an overlay of its own.
        for _ in 0..<2 {
            let machine = try image.start { settings, _ in settings.isWatched = true }
            #expect(try !machine.hasEnded && machine.qemuVersion().contains("."))
            #expect(!Files.exists(machine.settings.overlay.removingLastComponent()))
            machine.stop()
            #expect(machine.hasEnded && machine.settings.usesKVM == image.choice.usesKVM)
        }
    }

    /// A long text from a guest or the command line must not push out what a proof says of the image.
    @Test func aLongSignIsBounded() {
        let long = String(repeating: "x", count: 100_000)
        #expect(BootVerdict.proven(.expectedText(.serial)).sign(expecting: long).utf8.count < 400)
    }

    @Test func theSignNamesTheExpectedText() {
        #expect(
            BootVerdict.proven(.expectedText(.serial)).sign(expecting: "nginx")
                == "expected-text: “nginx” was on the serial line")
        #expect(BootVerdict.notProven(.emergencyMode).sign(expecting: nil).hasPrefix("emergency-mode: the system "))
        #expect(ProveOperation.faultOfKVM(EmulatorError.failed(program: "qemu", why: "abort")) == "abort")
        #expect(ProveOperation.faultOfKVM(JobFailure(.badImage, "damaged")) == nil)
    }
}
