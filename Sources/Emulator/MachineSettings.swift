// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

/// A virtual machine, as a pure value: what QEMU is started with.
package struct MachineSettings: Equatable, Sendable {
    /// The controller that the guest finds its disk on.
    package enum DiskBus: String, Codable, Sendable, CaseIterable {
        case nvme, sata, virtio, ide, scsi

        /// Whether it can have sectors of 4096 bytes: an IDE or SATA disk of QEMU cannot.
        package var takesLargeSectors: Bool { self != .sata && self != .ide }
    }

    package enum Firmware: Equatable, Sendable {
        case bios
        /// OVMF's code, and the machine's own copy of its variables.
        case uefi(code: FilePath, variables: FilePath)
    }

    package enum Network: String, Codable, Sendable, CaseIterable {
        case none
        /// QEMU's own NAT: the guest reaches the network of this machine.
        case user
    }

    package enum Display: Equatable, Sendable {
        case none
        case gtk
        case vncSocket(FilePath)
        /// The number of a display on the loopback address: port 5900 + N.
        case vnc(Int)

        /// Half a sentence: how to look at it.
        package var sentence: String {
            switch self {
            case .none: "without a display"
            case .gtk: "in a window"
            case .vncSocket(let path): "by VNC on the Unix socket \(path)"
            case .vnc(let number): "by VNC at 127.0.0.1:\(5900 + number) (display :\(number))"
            }
        }
    }

    /// What the clock of the machine shows.
    package enum Clock: String, Sendable { case utc, localtime }

    package var memoryByteCount: UInt64
    package var processorCount = 2
    package var usesKVM = false
    package var firmware = Firmware.bios
    package var bus = DiskBus.sata
    package var logicalSectorSize = 512
    /// The serial number that the guest reads from the disk.
    package var diskSerial: String?
    package var network = Network.none
    package var display = Display.none
    package var clock = Clock.utc
    /// The Unix socket of the NBD server with the read-only base.
    package var baseSocket: FilePath
    /// A kept overlay between the base and the one that takes the writes; it is only read.
    package var keptOverlay: FilePath?
    /// The qcow2 file that takes the guest's writes.
    package var overlay: FilePath
    /// Whether the overlay is only for this run, so that nothing need be flushed to its disk.
    package var isThrowAway = true
    /// The folder for the serial lines' pipes.
    package var folder: FilePath
    /// Whether the machine is watched: its serial lines, its panics, and its guest agent.
    package var isWatched = false
    /// Whether the guest's init is asked for a login on the serial line.
    package var asksForSerialLogin = false

    package init(memoryByteCount: UInt64, baseSocket: FilePath, overlay: FilePath, folder: FilePath) {
        self.memoryByteCount = memoryByteCount
        self.baseSocket = baseSocket
        self.overlay = overlay
        self.folder = folder
    }
}

extension MachineSettings {
    /// The nodes of a disk, the last one called `disk`: overlays over the base, the lowest first. What an overlay lies
    /// over is said here and not in its file, whose own record of it is only a hint.
    /// - Parameters:
    ///   - writesLast: whether the last overlay takes writes; all others are read only.
    ///   - isThrowAway: whether nothing need be flushed to its disk.
    package static func diskNodes(
        baseSocket: FilePath, overlays: [FilePath], writesLast: Bool, isThrowAway: Bool = false
    ) -> [String] {
        var nodes: [QMPValue] = [
            .object([
                "driver": .string("nbd"), "node-name": .string("base"), "read-only": .bool(true),
                "server": .object(["type": .string("unix"), "path": .string(baseSocket.string)]),
            ])
        ]
        for (number, overlay) in overlays.enumerated() {
            let isLast = number == overlays.count - 1
            let isReadOnly = QMPValue.bool(!(isLast && writesLast))
            var node: [String: QMPValue] = [
                "driver": .string("qcow2"), "node-name": .string(isLast ? "disk" : "layer\(number)"),
                "backing": .string(number == 0 ? "base" : "layer\(number - 1)"), "read-only": isReadOnly,
                "file": .object([
                    "driver": .string("file"), "filename": .string(overlay.string), "read-only": isReadOnly,
                ]),
            ]
            if isLast, isThrowAway { node["cache"] = .object(["no-flush": .bool(true)]) }
            nodes.append(.object(node))
        }
        return nodes.map(\.text)
    }

    /// The arguments of QEMU, with the program first.
    package var arguments: [String] {
        var list = [
            QemuProgram.system.rawValue, "-name", "guest=reforge", "-no-user-config", "-nodefaults",
            // The guest is foreign code: what an escape from it could do is limited. GTK may need helpers.
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny,spawn=\(display == .gtk ? "allow" : "deny")",
            "-machine", bus == .ide ? "pc" : "q35", "-accel", usesKVM ? "kvm" : "tcg,thread=multi", "-cpu", "max",
            "-smp", "\(processorCount)", "-m", "\(memoryByteCount >> 20)", "-rtc", "base=\(clock.rawValue)",
            "-vga", "std", "-usb", "-device", "usb-tablet", "-device", "virtio-rng-pci",
            "-chardev", "stdio,id=qmp,signal=off", "-mon", "chardev=qmp,mode=control",
            "-display", displayArgument,
        ]
        if case .uefi(let code, let variables) = firmware {
            list += ["-drive", "if=pflash,unit=0,format=raw,readonly=on,file=\(Self.escaped(code))"]
            list += ["-drive", "if=pflash,unit=1,format=raw,file=\(Self.escaped(variables))"]
        }
        let nodes = Self.diskNodes(
            baseSocket: baseSocket, overlays: [keptOverlay, overlay].compactMap { $0 }, writesLast: true,
            isThrowAway: isThrowAway)
        for node in nodes { list += ["-blockdev", node] }
        list += diskArguments + networkArguments
        if isWatched { list += watchArguments }
        return list
    }

    private var displayArgument: String {
        switch display {
        case .none: "none"
        case .gtk: "gtk"
        case .vncSocket(let path): "vnc=unix:\(Self.escaped(path))"
        case .vnc(let number): "vnc=127.0.0.1:\(number)"
        }
    }

    private var diskArguments: [String] {
        var controller: [String] = []
        var device: String
        switch bus {
        case .nvme: device = "nvme,drive=disk,serial=\(diskSerial ?? "REFORGE")"
        case .sata, .ide: device = "ide-hd,bus=ide.0,drive=disk"
        case .virtio: device = "virtio-blk-pci,drive=disk"
        case .scsi:
            controller = ["-device", "virtio-scsi-pci,id=scsi"]
            device = "scsi-hd,bus=scsi.0,drive=disk"
        }
        if let diskSerial, bus != .nvme { device += ",serial=\(diskSerial)" }
        if logicalSectorSize != 512, bus.takesLargeSectors {
            device += ",logical_block_size=\(logicalSectorSize),physical_block_size=\(logicalSectorSize)"
        }
        // A read error is the guest's to handle, as on a machine; a write error is this machine's lack of space.
        if bus != .nvme { device += ",rerror=report,werror=stop" }
        // With a boot index OVMF would rewrite the order of its entries; a BIOS has none of its own.
        if firmware == .bios { device += ",bootindex=1" }
        return controller + ["-device", device]
    }

    private var networkArguments: [String] {
        switch network {
        case .none: ["-nic", "none"]
        // Without an option ROM: nothing is booted from the network.
        case .user: ["-netdev", "user,id=net", "-device", "e1000e,netdev=net,romfile="]
        }
    }

    private var watchArguments: [String] {
        var list = [
            // Stopped instead of ended, so that the screen can still be looked at.
            "-action", "shutdown=pause,panic=pause", "-device", "pvpanic",
            "-chardev", "pipe,id=serial,path=\(Self.escaped(folder.appending("serial")))",
            "-serial", "chardev:serial",
            "-device", "virtio-serial-pci,id=lines",
            // systemd starts a login there by itself where the kernel has this console built in.
            "-chardev", "pipe,id=console,path=\(Self.escaped(folder.appending("console")))",
            "-device", "virtconsole,bus=lines.0,chardev=console",
            "-chardev", "pipe,id=agent,path=\(Self.escaped(folder.appending("agent")))",
            "-device", "virtserialport,bus=lines.0,chardev=agent,id=agent,name=org.qemu.guest_agent.0",
        ]
        if asksForSerialLogin {
            // systemd.system-credentials(7), from version 254 on; and systemd-stub(7) for unified kernel images.
            list += ["-smbios", "type=11,value=io.systemd.credential:getty.ttys.serial=ttyS0"]
            list += ["-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=console=ttyS0"]
        }
        return list
    }

    /// A path in an option of QEMU, which separates options by commas.
    static func escaped(_ path: FilePath) -> String {
        path.string.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
    }
}
