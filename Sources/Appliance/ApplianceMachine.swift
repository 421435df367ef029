// SPDX-License-Identifier: GPL-3.0-or-later
import Emulator
import LinuxSystem
import SystemPackage

/// The command line of the machine that reads an image: no network, no device but what the agent needs, and no disk
/// that can be written but the file of an export that is adapted.
struct ApplianceMachine: Equatable {
    enum Accelerator: String {
        case kvm
        /// QEMU's own emulation, which works everywhere and is some ten times slower.
        case tcg = "tcg,thread=multi"
    }

    struct Disk: Equatable {
        enum Access: Equatable {
            /// Served by this process, and never written.
            case readOnly(socket: FilePath)
            /// A file: JSON objects, one a `-blockdev`, the last of which has the node name `disk`.
            case writable(nodes: [String])
        }

        var access: Access
        var logicalSectorSize: Int

        init(socket: FilePath, logicalSectorSize: Int) {
            (access, self.logicalSectorSize) = (.readOnly(socket: socket), logicalSectorSize)
        }

        init(_ disk: WritableDisk) {
            (access, logicalSectorSize) = (.writable(nodes: disk.nodes), disk.logicalSectorSize)
        }
    }

    var media: ApplianceMedia
    var accelerator: Accelerator
    var memoryMiB: Int
    var processorCount: Int
    var disks: [Disk]
    /// The descriptor of the agent's socket in the child.
    var channel: FileDescriptor

    /// The name of the port in the machine, and of its disks before their number.
    static let portName = "reforge.agent"
    static let serialPrefix = "reforge-disk-"
    /// In the kernel's command line, so that the medium's first process starts the agent and nothing else.
    static let kernelWord = "reforge.agent"

    var arguments: [String] {
        var arguments = [
            QemuProgram.system.rawValue, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            // The machine may be taken over by a filesystem that it reads: QEMU gets as little as possible.
            "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-machine", "q35", "-accel", accelerator.rawValue, "-cpu", "max",
            "-smp", String(processorCount), "-m", String(memoryMiB),
            "-kernel", QemuText.plainPath(media.kernel), "-initrd", QemuText.plainPath(media.initramfs),
            // panic=-1: a kernel that fails ends the machine at once.
            "-append", "quiet panic=-1 console=ttyS0 mitigations=off \(Self.kernelWord)",
            "-serial", "stdio",
        ]
        for (number, disk) in disks.enumerated() { arguments += Self.arguments(disk, number) }
        return arguments + [
            "-device", "virtio-serial-pci,max_ports=2", "-chardev", "socket,id=agent,fd=\(channel.rawValue)",
            "-device", "virtserialport,chardev=agent,name=\(Self.portName)",
        ]
    }

    private static func arguments(_ disk: Disk, _ number: Int) -> [String] {
        var arguments: [String] = []
        let node: String
        // Errors go to the machine, whose agent reports them: by default, QEMU would stop it where there is no room.
        let errors: String
        switch disk.access {
        case .readOnly(let socket):
            (node, errors) = ("disk\(number)", "")
            arguments = [
                "-blockdev",
                "{\"driver\":\"nbd\",\"node-name\":\"\(node)\",\"read-only\":true,"
                    + "\"server\":{\"type\":\"unix\",\"path\":\(QemuText.json(socket.string))}}",
            ]
        case .writable(let nodes):
            (node, errors) = ("disk", ",werror=report,rerror=report")
            for node in nodes { arguments += ["-blockdev", node] }
        }
        return arguments + [
            "-device",
            "virtio-blk-pci,drive=\(node),serial=\(serialPrefix)\(number),"
                + "logical_block_size=\(disk.logicalSectorSize),"
                + "physical_block_size=\(max(512, disk.logicalSectorSize))\(errors)",
        ]
    }

    /// Whether the kernel lets this user run machines. That they run is seen only when one does.
    static var mayUseKVM: Bool { (try? OwnedDescriptor.open("/dev/kvm", .readWrite)) != nil }
}
