// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// An image as the disk of a virtual machine: served read-only, under an overlay that takes the writes.
final class BootedImage {
    let source: ServedSource
    private(set) var choice: MachineChoice
    /// Whether what is booted is a kept overlay, and `source` only its base.
    let isOverlay: Bool
    private let keys: KeyRing
    /// The argument.
    private let text: String
    private(set) var settings: MachineSettings
    private let server: NBDServer
    /// For sockets, pipes and the firmware's variables.
    private let folder: PrivateFolder
    /// The folder of a throw-away overlay.
    private var scratch: FilePath?
    /// The new file of a kept overlay, until the machine has started.
    private var unused: FilePath?

    /// - Parameters:
    ///   - keep: the new file for the overlay; `nil` for a throw-away one.
    ///   - writesKept: whether an image that is a kept overlay takes the writes itself.
    init(
        _ text: String, _ options: MachineOptions, keep: FilePath? = nil, writesKept: Bool = false, _ keys: KeyRing
    ) throws {
        let path = FilePath(text)
        let record = try OverlayRecord.find(path)
        if record != nil, keep != nil {
            throw JobFailure(.usage, "\(text) is a kept overlay: what is written goes into it, so leave out --keep")
        }
        if let keep, Files.exists(keep) || Files.exists(OverlayRecord.path(of: keep)) {
            throw JobFailure(.cannotCreate, "\(keep) or its .reforge.json exists: name a new file with --keep")
        }
        source = try record?.openBase(of: path, keys) ?? ServedSource.open(text, keys)
        let manifest = source.header.manifest
        isOverlay = record != nil
        (self.keys, self.text) = (keys, text)
        try keys.refuseUnused(text)
        for hole in source.header.manifest.holes(source.unreadable) {
            keys.events.warn("unreadable", "\(text): \(ServeOperation.text(hole))")
        }
        choice = try MachineChoice(
            options, manifest, freeMemory: SystemFacts.availableMemory(), hasKVM: MachineChoice.hasKVM)
        folder = try PrivateFolder()
        let socket = folder.path.appending("base")
        server = try NBDServer(source.disk, at: .unix(socket))
        var (made, new): (FilePath?, FilePath?)
        do {
            let overlay: FilePath
            if record != nil, writesKept {
                overlay = path
            } else if let keep {
                let record = try OverlayRecord(source)
                try QemuOverlay.create(keep, byteCount: source.disk.byteCount)
                new = keep
                try record.write(beside: keep)
                keys.events.warn("overlay-needs-base", record.need(of: keep))
                if case .keyed = source.identity {
                    keys.events.warn(
                        "plain-overlay", "\(text) is encrypted, and \(keep) is not: it holds what the guest writes")
                }
                overlay = keep
            } else {
                let scratch = try Files.makeTemporaryFolder("reforge-vm")
                made = scratch
                overlay = scratch.appending("overlay.qcow2")
                try QemuOverlay.create(overlay, byteCount: source.disk.byteCount)
            }
            settings = MachineSettings(
                memoryByteCount: choice.memoryByteCount, baseSocket: socket, overlay: overlay, folder: folder.path)
            settings.isThrowAway = made != nil
            settings.keptOverlay = record != nil && !writesKept ? path : nil
            settings.usesKVM = choice.usesKVM
            settings.bus = choice.bus
            settings.clock = choice.clock
            settings.processorCount = max(1, min(choice.usesKVM ? 4 : 2, SystemFacts.processorCount()))
            settings.logicalSectorSize = manifest.geometry.logicalSectorSize
            settings.diskSerial = MachineChoice.serial(manifest)
            if choice.isUEFI { settings.firmware = try MachineFirmware.prepare(manifest, in: folder.path) }
        } catch {
            server.stop()
            Self.remove(made)
            Self.removeKept(new)
            throw error
        }
        (scratch, unused) = (made, new)
    }

    deinit { end() }

    /// Starts the machine. Where QEMU does not start with KVM, as on hosts that are virtual machines without nested
    /// virtualization, the processor is emulated.
    /// - Parameter change: completes its settings; it is given the private folder.
    func start(_ change: (inout MachineSettings, FilePath) -> Void) throws -> RunningMachine {
        change(&settings, folder.path)
        do throws(EmulatorError) {
            do throws(EmulatorError) { return try started() } catch {
                guard settings.usesKVM, case .failed(_, let why) = error, !keys.cancellation.isRequested else {
                    throw error
                }
                settings.usesKVM = false
                let machine = try started()
                // It was KVM, and not an overlay that is in use.
                emulate(because: "QEMU does not start with it: \(why)")
                return machine
            }
        } catch {
            if case .missing = error { throw JobFailure(.notFound, "\(error)") }
            if error.isLocked { throw JobFailure(.refused, OverlayRecord.inUse(text)) }
            throw JobFailure(.cannotCreate, "the virtual machine does not start: \(error)")
        }
    }

    private func started() throws(EmulatorError) -> RunningMachine {
        // A machine before has taken the throw-away overlay with it.
        if scratch != nil, !Files.exists(settings.overlay) {
            do { scratch = try Files.makeTemporaryFolder("reforge-vm") } catch { throw .system(error) }
            settings.overlay = scratch?.appending("overlay.qcow2") ?? settings.overlay
            try QemuOverlay.create(settings.overlay, byteCount: source.disk.byteCount)
        }
        let machine = try RunningMachine(settings)
        // QEMU has it open: however this ends, nothing stays behind.
        Self.remove(scratch)
        unused = nil
        return machine
    }

    /// Makes the next start emulate the processor.
    func emulate(because why: String) {
        keys.events.warn("kvm", "KVM does not work here, so the processor is emulated, which is slower (\(why))")
        choice.usesKVM = false
        settings.usesKVM = false
        settings.processorCount = min(settings.processorCount, 2)
    }

    /// How it is started, for a person.
    var sentence: String {
        "\(text): \(choice.isUEFI ? "UEFI" : "BIOS"), \(choice.bus.rawValue) disk, "
            + "\(ByteText.rounded(choice.memoryByteCount)) of memory, \(choice.usesKVM ? "KVM" : "emulated processor")"
    }

    /// The failure of the first read of the image that did not succeed.
    var damage: JobFailure? {
        server.failure.map {
            // An unplugged drive or a lost network says nothing about the image.
            let isDamage = source.damage.map(SalvageAdvice.isDamage) ?? true
            return JobFailure(
                isDamage ? .badImage : .ioError,
                "the image cannot be read in part (\($0)), so the system in the machine met a read error. "
                    + (isDamage
                        ? "reforge verify \(source.text) lists the damage"
                        : "Make \(source.text) readable, and try again"))
        }
    }

    /// Fails if the guest's writes do not find room.
    func checkWrites(_ machine: RunningMachine, _ events: [QMPEvent]) throws {
        let failed = events.first {
            $0.name == "BLOCK_IO_ERROR" && $0.data["operation"]?.string == "write"
        }
        guard try failed != nil || machine.failedWriteCount() > 0 else { return }
        let isFull = failed?.data["nospace"]?.bool ?? ((Files.freeByteCount(place) ?? .max) < 64 << 20)
        guard isFull else {
            throw JobFailure(.ioError, "\(place) does not take what the machine writes: its disk reports an error")
        }
        throw JobFailure(
            .ioError,
            "\(place) is full, and takes nothing more of what the machine writes. Make room there, or name another folder "
                + (scratch == nil ? "with --keep" : "with TMPDIR"))
    }

    /// Where the guest's writes go.
    private var place: FilePath {
        // The folder of a throw-away overlay is gone.
        let folder = (scratch ?? settings.overlay).removingLastComponent()
        return folder.isEmpty ? "." : folder
    }

    func end() {
        server.stop()
        Self.remove(scratch)
        Self.removeKept(unused)
        unused = nil
    }

    /// Removes a new overlay that no machine has written to.
    private static func removeKept(_ new: FilePath?) {
        guard let new else { return }
        try? Files.remove(OverlayRecord.path(of: new))
        try? Files.remove(new)
    }

    private static func remove(_ scratch: FilePath?) {
        guard let scratch else { return }
        try? Files.remove(scratch.appending("overlay.qcow2"))
        try? Files.removeFolder(scratch)
    }
}
