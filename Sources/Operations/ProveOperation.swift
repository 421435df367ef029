// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Emulator
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Boots an image in a virtual machine without a network, and judges whether its system has started.
package final class ProveOperation {
    private let job: ProveJob
    private let keys: KeyRing
    private let events: any EventSink
    private let proofs: (any ProofStore)?
    private var cancellation: Cancellation { keys.cancellation }

    /// A processor that is emulated takes several times as long.
    private static let timeout = (kvm: 300.0, emulated: 1200.0)

    /// - Parameter proofs: where the verdict is stored too.
    package init(_ job: ProveJob, keys: KeyRing, events: any EventSink, proofs: (any ProofStore)? = nil) {
        (self.job, self.keys, self.events, self.proofs) = (job, keys, events, proofs)
        keys.allowsBacking = job.allowsBacking
    }

    package func run() throws -> ProveReport {
        try events.reporting("prove", cancellation, outcome: { $0.outcome }) { try prove() }
    }

    private func prove() throws -> ProveReport {
        if let text = job.expectedText, text.allSatisfy(\.isWhitespace) || text.contains(where: \.isNewline) {
            throw JobFailure(.usage, "--expect takes a text of one line")
        }
        let folder = job.output.map { FilePath($0) }
        // Before the long work.
        if let folder { try Self.prepare(folder) }
        let image = try BootedImage(job.image, job.machine, keys)
        defer { image.end() }
        let began = SystemFacts.utcText(SystemFacts.unixSeconds())
        let machine = try image.start { settings, _ in
            settings.isWatched = true
            settings.asksForSerialLogin = job.asksForSerialLogin
        }
        defer { machine.stop() }
        events.log(image.sentence)
        events.take(.phase("boot"))
        let usual = image.choice.usesKVM ? Self.timeout.kvm : Self.timeout.emulated
        let watch = BootWatch(
            machine, Self.limits(timeout: job.timeoutSeconds ?? usual, isEmulated: !image.choice.usesKVM),
            expecting: job.expectedText)
        var found: BootVerdict?
        var failure: (any Error)?
        do { found = try verdict(watch, image, machine) } catch { failure = error }
        // What it showed is worth keeping in every case.
        let screen = try? machine.picture()
        let report = found.map {
            ProveReport(image, $0, started: began, seconds: watch.seconds, screenText: watch.rows.map(Self.trimmed))
        }
        if let folder { try Self.write(report, screen: screen, serial: watch.serialLog, into: folder) }
        if let failure { throw failure }
        guard let report else { throw JobFailure(.ioError, "the machine ended without a verdict") }
        try proofs?.store(report, screen: screen)
        return report
    }

    static func limits(timeout: Double, isEmulated: Bool) -> BootJudge.Limits {
        var limits = BootJudge.Limits(timeout: timeout)
        if isEmulated { (limits.settle, limits.hold, limits.quiet) = (20, 10, 300) }
        return limits
    }

    private func verdict(_ watch: BootWatch, _ image: BootedImage, _ machine: RunningMachine) throws -> BootVerdict {
        while true {
            let step = try watch.step()
            try cancellation.check()
            // A system that started in spite of it proves nothing about the rest of the image.
            if let damage = image.damage { throw damage }
            if !step.events.isEmpty { try image.checkWrites(machine, step.events) }
            if let verdict = step.verdict { return verdict }
        }
    }

    private static func trimmed(_ rows: [String]) -> [String] {
        var rows = rows
        while let last = rows.last, last.isEmpty { rows.removeLast() }
        return rows
    }

    // MARK: The files of --output

    private static func prepare(_ folder: FilePath) throws {
        do throws(SystemCallError) {
            try Files.makeFolders(folder)
            // An older verdict must not be taken for this one.
            for name in ["verdict.json", "screen.png", "serial.log"] where Files.exists(folder.appending(name)) {
                try Files.remove(folder.appending(name))
            }
        } catch { throw JobFailure(.cannotCreate, "\(error): name another folder with --output") }
    }

    private static func write(
        _ report: ProveReport?, screen: [UInt8]?, serial: [UInt8], into folder: FilePath
    ) throws {
        do {
            try Files.write(serial, to: folder.appending("serial.log"))
            if let screen { try Files.write(screen, to: folder.appending("screen.png")) }
            // Last: it says that the others are whole.
            if let report {
                try Files.write(
                    try JSONText.encode(report, pretty: true) + [0x0A], to: folder.appending("verdict.json"))
            }
        } catch {
            throw JobFailure(.cannotCreate, "\(error), so the verdict is not kept: name another folder with --output")
        }
    }
}
