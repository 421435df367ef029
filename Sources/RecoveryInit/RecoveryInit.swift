// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The recovery environment: what the program does as PID 1 of the medium, and the session that PID 1 starts.
package enum RecoveryInit {
    /// What the executable's hidden command for the session is called.
    package static let sessionCommand = "recovery-session"

    /// Whether this process was started by the kernel as the first one of the medium, and not as PID 1 of some
    /// container: then its name is `/init` (or `/sbin/init`), as no workstation calls the program.
    package static func isFirstProcessOfMedium(arguments: [String]) -> Bool {
        guard SystemFacts.isFirstProcess, let name = arguments.first else { return false }
        return FilePath(name).lastComponent?.string == "init" && Files.exists(RecoveryPaths.buildID)
    }

    /// Sets the machine up, keeps a session running, and ends the machine. To be called as PID 1.
    package static func runAsFirstProcess() -> Never {
        let supervisor = Supervisor()
        supervisor.run()
    }

    /// Does the work: modules, disks, settings, a job or the menu. Ends when the machine is to end: what is to happen
    /// then is in `/run/reforge/finish`.
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

/// The places by which PID 1, the session and the other commands know each other.
enum RecoveryPaths {
    /// Everything of ours that lives as long as the machine runs.
    static let run: FilePath = "/run/reforge"
    /// Which build this medium is.
    static let buildID: FilePath = "/etc/reforge/build-id"
    /// What happens when the session has ended: `reboot` or `poweroff`.
    static let finish: FilePath = "/run/reforge/finish"
    /// Requests to PID 1.
    static let control: FilePath = "/run/reforge/control"
    /// All that was said.
    static let log: FilePath = "/run/reforge/reforge.log"
    /// The kernel's names of the disks that the medium is on, one a line.
    static let medium: FilePath = "/run/reforge/medium"
    /// That an unattended job was begun in this boot.
    static let jobMarker: FilePath = "/run/reforge/job-started"
    /// Below it, volumes are mounted.
    static let volumes: FilePath = "/run/reforge/volumes"
    /// A folder for its owner only, with the password of the job. It is in memory, as all of /run is.
    static let secrets: FilePath = "/run/reforge/secrets"
    /// The job that a child does.
    static let job: FilePath = "/run/reforge/job.json"
    /// What curl tells of an HTTP answer.
    static let httpHeaders: FilePath = "/run/reforge/http-headers"
    /// The program itself, for children.
    static var program: String { Files.exists("/bin/reforge") ? "/bin/reforge" : "/proc/self/exe" }
}
