// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import JobModel
import LinuxSystem
import SystemPackage

/// The recovery environment: the program as PID 1 of the medium, and the session started by PID 1.
package enum RecoveryInit {
    /// The name of the executable's hidden command for the session.
    package static let sessionCommand = "recovery-session"

    /// Whether the kernel started this process as the first one of the medium, rather than as PID 1 of a container: its
    /// name is then `/init` (or `/sbin/init`), which is not used on workstations.
    package static func isFirstProcessOfMedium(arguments: [String]) -> Bool {
        guard SystemFacts.isFirstProcess, let name = arguments.first else { return false }
        return FilePath(name).lastComponent?.string == "init" && Files.exists(RecoveryPaths.buildID)
    }

    /// Sets up the machine, keeps a session running, and ends the machine. Must be called as PID 1.
    package static func runAsFirstProcess() -> Never {
        // /proc is mounted before main (CEarlyBoot).
        if ApplianceAgent.isWanted(commandLine: Files.text("/proc/cmdline") ?? "") { AgentSupervisor.run() }
        let supervisor = Supervisor()
        supervisor.run()
    }

    /// Runs the session: modules, disks, settings, a job or the menu. Returns when the machine should stop or restart;
    /// `/run/reforge/finish` says which.
    /// - Returns: the exit status for the process.
    package static func runSession() -> Int32 {
        guard SystemFacts.isRecoveryEnvironment else {
            let message = "reforge: the recovery session runs on the recovery medium only, started by its PID 1\n"
            _ = try? FileDescriptor.standardError.writeAll(Array(message.utf8))
            return ExitStatus.refused.rawValue
        }
        return Session(console: SessionConsole()).run()
    }
}

/// The paths shared by PID 1, the session and the other commands.
enum RecoveryPaths {
    /// The folder of all runtime files.
    static let run: FilePath = "/run/reforge"
    /// The build id of this medium.
    static let buildID: FilePath = "/etc/reforge/build-id"
    /// The action after the end of the session: `reboot` or `poweroff`.
    static let finish: FilePath = "/run/reforge/finish"
    /// Requests to PID 1.
    static let control: FilePath = "/run/reforge/control"
    /// The log of all messages.
    static let log: FilePath = "/run/reforge/reforge.log"
    /// The kernel's names of the medium's disks, one per line.
    static let medium: FilePath = "/run/reforge/medium"
    /// The marker of an unattended job started in this boot.
    static let jobMarker: FilePath = "/run/reforge/job-started"
    /// The folder below which volumes are mounted.
    static let volumes: FilePath = "/run/reforge/volumes"
    /// A folder for its owner only, with the password of the job. In memory, like all of /run.
    static let secrets: FilePath = "/run/reforge/secrets"
    /// A folder for its owner only, with the hooks of the medium. In memory, like all of /run.
    static let hooks: FilePath = "/run/reforge/hooks"
    /// The job for the child.
    static let job: FilePath = "/run/reforge/job.json"
    /// The HTTP response header from curl.
    static let httpHeaders: FilePath = "/run/reforge/http-headers"
    /// The folder for findings about disks, by `KeptFindings` (`doctor-NAME.json`, `.txt`), which become part of `support.tar.zst`.
    static let findings: FilePath = "/run/reforge/findings"
    /// The program itself, for children.
    static var program: String { Files.exists("/bin/reforge") ? "/bin/reforge" : "/proc/self/exe" }
}
