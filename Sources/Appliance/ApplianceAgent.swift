// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The agent's process inside the appliance.
package enum ApplianceAgent {
    /// The name of the executable's hidden command.
    package static let command = "appliance-agent"

    /// Whether the kernel was started for the agent.
    package static func isWanted(commandLine: String) -> Bool {
        commandLine.split(whereSeparator: \.isWhitespace).contains { $0 == ApplianceMachine.kernelWord }
    }

    /// Serves the host until it closes the stream.
    /// - Returns: the exit status for the process.
    package static func run() -> Int32 {
        // Only these: every other module is loaded when the kernel or a volume needs it. Loading btrfs alone takes
        // seconds under emulation.
        // The driver reads the partition tables: killed before that, it would leave a disk without partitions. The host
        // has a limit of its own.
        DiskVolumes.loadModules(["virtio_pci", "virtio_blk", "virtio_console"], timeoutSeconds: 900)
        guard let port = wait({ Self.port() }) else { return fail("there is no port to the host") }
        guard let disks = wait({ Self.disks().isEmpty ? nil : Self.disks() }) else {
            return fail("there is no disk of the host")
        }
        do {
            let descriptor = try OwnedDescriptor.open(port, .readWrite)
            let channel = AgentChannel(descriptor, cancellation: Cancellation())
            // QEMU refuses writes to every disk but one that the host wants repaired.
            let volumes = DiskVolumes(disks, folder: "/run/reforge-agent", mayRepair: true)
            try Agent(channel, volumes: volumes).run()
            return 0
        } catch { return fail("\(error)") }
    }

    private static func fail(_ why: String) -> Int32 {
        _ = try? FileDescriptor.standardError.writeAll(Array("reforge: the agent ended: \(why)\n".utf8))
        return 1
    }

    /// A device appears a moment after its driver was loaded.
    private static func wait<Value>(_ find: () -> Value?) -> Value? {
        for _ in 0..<1000 {
            if let value = find() { return value }
            SystemFacts.sleep(seconds: 0.02)
        }
        return nil
    }

    private static func port() -> FilePath? {
        let ports: FilePath = "/sys/class/virtio-ports"
        let name = Files.names(in: ports).first { name in
            Files.text(ports.appending(name).appending("name")) == ApplianceMachine.portName
        }
        guard let name else { return nil }
        let path = FilePath("/dev/\(name)")
        return Files.exists(path) ? path : nil
    }

    /// The nodes of the host's disks, in the order that the host gave them.
    private static func disks() -> [FilePath] {
        let blocks: FilePath = "/sys/block"
        let found = Files.names(in: blocks).compactMap { name -> (number: Int, path: FilePath)? in
            guard let serial = Files.text(blocks.appending(name).appending("serial")),
                serial.hasPrefix(ApplianceMachine.serialPrefix),
                let number = Int(serial.dropFirst(ApplianceMachine.serialPrefix.count))
            else { return nil }
            return (number, FilePath("/dev/\(name)"))
        }
        return found.sorted { $0.number < $1.number }.map(\.path)
    }
}
