// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import LinuxSystem
import SystemPackage

/// PID 1 of the appliance: boot steps, the agent as a child, the end of the machine. No session, no consoles, no wait
/// for hardware.
enum AgentSupervisor {
    static func run() -> Never {
        let facts = BootStep.Facts(commandLine: Files.text("/proc/cmdline") ?? "", hostName: "")
        let console = { try? FileDescriptor.open("/dev/console", .writeOnly, options: [.closeOnExec]) }
        for step in BootStep.all(for: facts) {
            do { try step.perform() } catch {
                _ = try? console()?.writeAll(Array("reforge: \(step) failed: \(error)\n".utf8))
            }
        }
        let output = console()
        if let child = try? ChildProcess(
            [RecoveryPaths.program, ApplianceAgent.command], output: output, error: output)
        {
            let processID = child.processID
            var isOver = false
            while !isOver {
                // Other ended processes are orphans, of ntfs-3g for example.
                switch Processes.reap() {
                case .child(let id, _): isOver = id == processID
                case .noneEnded: SystemFacts.sleep(seconds: 0.05)
                case .noneLeft: isOver = true
                }
            }
        }
        // QEMU runs with -no-reboot: this ends it.
        let failure = Machine.restart()
        _ = try? output?.writeAll(Array("reforge: \(failure)\n".utf8))
        while true { SystemFacts.sleep(seconds: 60) }
    }
}
