// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Emulator
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Boots an image in a virtual machine, until the guest switches itself off or the user ends it. The image is never
/// written.
package final class VirtualMachineOperation {
    private let job: VirtualMachineJob
    private let keys: KeyRing
    private let events: any EventSink
    /// Requested by the user: once to press the power button, and once more to end the machine.
    private var cancellation: Cancellation { keys.cancellation }
    /// How long a guest may take to switch itself off, in seconds, where no one is at the terminal to end it: less than
    /// systemd gives a service before it kills it.
    private static let patience = 80.0

    package init(_ job: VirtualMachineJob, keys: KeyRing, events: any EventSink) {
        (self.job, self.keys, self.events) = (job, keys, events)
        keys.allowsBacking = job.allowsBacking
    }

    package func run() throws -> VirtualMachineReport {
        try events.reporting("vm", cancellation, outcome: { $0.outcome }) { try boot() }
    }

    private func boot() throws -> VirtualMachineReport {
        let start = SystemFacts.monotonicSeconds()
        let image = try BootedImage(job.image, job.machine, keep: job.keep.map { FilePath($0) }, writesKept: true, keys)
        defer { image.end() }
        guard let network = MachineSettings.Network(rawValue: job.network) else {
            throw JobFailure(.usage, "--network takes none or user")
        }
        try cancellation.check()
        let machine = try image.start { settings, folder in
            settings.network = network
            settings.display = Self.display(job.display, folder)
        }
        defer { machine.stop() }
        events.log(image.sentence)
        events.log("running \(machine.settings.display.sentence); Ctrl-C presses its power button, twice ends it")
        try run(machine, image)
        let isDamaged = image.damage != nil
        do { try image.source.checkHeldStill() } catch { events.warn("source-changed", "\(error)") }
        return VirtualMachineReport(
            image: image.source.text, imageID: image.source.imageID?.description,
            overlay: job.keep ?? (image.isOverlay ? job.image : nil),
            firmware: image.choice.isUEFI ? "uefi" : "bios", disk: image.choice.bus.rawValue,
            seconds: SystemFacts.monotonicSeconds() - start, isDamaged: isDamaged)
    }

    private func run(_ machine: RunningMachine, _ image: BootedImage) throws {
        var pressed: Double?
        var hasWarned = false
        var lastCheck = 0.0
        while !machine.hasEnded {
            let heard = try machine.listen(seconds: 0.3)
            if machine.hasEnded { break }
            if SystemFacts.monotonicSeconds() - lastCheck > 3 || !heard.events.isEmpty {
                lastCheck = SystemFacts.monotonicSeconds()
                // It may have ended since.
                do { try image.checkWrites(machine, heard.events) } catch is EmulatorError where machine.hasEnded {
                    break
                }
            }
            if !hasWarned, let damage = image.damage {
                hasWarned = true
                events.warn("image-damaged", damage.message)
            }
            if cancellation.requestCount > 1 || cancellation.isLoss {
                events.log("ending the machine")
                return
            }
            if let pressed, !cancellation.isFromTerminal,
                SystemFacts.monotonicSeconds() - pressed > Self.patience
            {
                events.log("the machine does not switch itself off, and is ended: \(cancellation.name)")
                return
            }
            if cancellation.isRequested, pressed == nil {
                pressed = SystemFacts.monotonicSeconds()
                events.log("the power button is pressed; once more ends the machine at once")
                do throws(EmulatorError) { try machine.pressPowerButton() } catch {
                    guard machine.hasEnded else { throw error }
                    break
                }
            }
        }
        guard machine.hasEndedWell else {
            throw JobFailure(
                .ioError,
                "QEMU ended with an error: \(machine.endingText)"
                    + (image.choice.usesKVM ? ". If KVM is the cause: --no-kvm" : ""))
        }
    }

    /// A window where there is a desktop and QEMU can draw one, else VNC on a socket of this user.
    static func display(_ asked: String?, _ folder: FilePath) -> MachineSettings.Display {
        switch asked {
        case "none": return .none
        case "gtk": return .gtk
        case let text? where text.hasPrefix("vnc:"): return .vnc(Int(text.dropFirst(4)) ?? 0)
        case nil:
            let hasDesktop = ["WAYLAND_DISPLAY", "DISPLAY"].contains {
                SystemFacts.environment($0).map { !$0.isEmpty } ?? false
            }
            let modules: [FilePath] = [
                "/usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so", "/usr/lib64/qemu-kvm/ui-gtk.so",
                "/usr/lib64/qemu/ui-gtk.so", "/usr/lib/qemu/ui-gtk.so",
            ]
            if hasDesktop, modules.contains(where: Files.exists) { return .gtk }
        default: break
        }
        return .vncSocket(folder.appending("vnc"))
    }
}

/// How a virtual machine ran.
package struct VirtualMachineReport: Encodable {
    package var schema = 1
    package var image: String
    package var imageID: String?
    /// The kept overlay.
    package var overlay: String?
    package var firmware: String
    package var disk: String
    package var seconds: Double
    /// Whether parts of the image could not be read.
    package var isDamaged: Bool

    package var outcome: Outcome { Outcome(isDamaged ? .badImage : .done) }
}
