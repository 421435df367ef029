// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import CEarlyBoot
import Imaging
import LinuxSystem
import RecoveryInit

/// The entry point of the program: a command, or the first process of the recovery environment.
@main
enum Entry {
    static func main() {
        if RecoveryInit.isFirstProcessOfMedium(arguments: CommandLine.arguments) { RecoveryInit.runAsFirstProcess() }
        Process.enter()
        do {
            var command = try Reforge.parseAsRoot()
            if !(command is any ServantCommand) { Process.continueInChild() }
            if command is any MountingCommand { Process.ownMounts() }
            try command.run()
        } catch { Reforge.exit(withError: error) }
    }
}

/// A command that mounts filesystems temporarily, in a mount namespace of its own.
protocol MountingCommand: ParsableCommand {}

/// A command that other processes of this program start, and wait for themselves.
protocol ServantCommand: ParsableCommand {}

struct Reforge: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reforge",
        abstract: "Captures whole disks into images, and restores them onto the same or another disk.",
        discussion: """
            Inspect a disk, capture it, verify the image, restore it:

              reforge inspect /dev/sda
              reforge capture /dev/sda /mnt/backup/laptop.img.zst
              reforge verify /mnt/backup/laptop.img.zst
              reforge restore /mnt/backup/laptop.img.zst /dev/nvme0n1 --dry-run
              reforge restore /mnt/backup/laptop.img.zst /dev/nvme0n1

            Capture and restore through a pipe, without a file in between:

              reforge capture /dev/sda - | ssh store 'cat > laptop.img.zst'
              ssh store cat laptop.img.zst | reforge restore - /dev/nvme0n1 --yes

            Capture every night into a repository, where only changes take space; list, thin out, verify, roll back:

              reforge init-repo /mnt/backup/repo
              reforge capture /dev/sda /mnt/backup/repo@
              reforge snapshots /mnt/backup/repo
              reforge forget /mnt/backup/repo --keep-daily 7 --keep-monthly 12 && reforge prune /mnt/backup/repo
              reforge verify /mnt/backup/repo --read-data=10
              reforge restore /mnt/backup/repo@latest /dev/sda --delta

            Boot an image in a virtual machine at once, or have it proven that it boots:

              reforge vm /mnt/backup/repo@latest
              reforge prove /mnt/backup/repo@latest

            Why a disk or an image will not start here, and the fix:

              reforge doctor /mnt/backup/repo@latest --for this

            An image is a plain .zst file of the raw disk, which can be restored without Reforge:

              zstd -dc laptop.img.zst | dd of=/dev/nvme0n1 bs=4M

            A DISK is a block device or a raw image file. An IMAGE is an image, a snapshot (REPO@ID, REPO@latest, \
            REPO@HOST/latest, REPO@HOST/DISK/latest, REPO@2026-11-22T15:00), or a raw .img, .img.xz or .img.zst of \
            another tool.

            Exit codes: 0 done; 64 usage; 65 damaged or foreign image; 66 no such disk, image or snapshot; 70 the data \
            is complete, but growing or boot repair failed or is pending, or the doctor found what stops a start; 73 \
            cannot create the output; 74 read or \
            write error, or a disk that is gone; 75 interrupted, the same command continues; 77 refused for safety, or \
            a wrong password; 78 settings match no or several disks or snapshots.
            """,
        version: ProgramVersion.text,
        subcommands: [
            InspectCommand.self, CaptureCommand.self, RestoreCommand.self, VerifyCommand.self, BootRepairCommand.self,
            KeyCommand.self, ExportCommand.self, MountCommand.self,
            InitRepoCommand.self, SnapshotsCommand.self, DiffCommand.self, ForgetCommand.self, PruneCommand.self,
            CopyCommand.self, ImportCommand.self, ServeCommand.self, FilesCommand.self, VirtualMachineCommand.self,
            ProveCommand.self, DoctorCommand.self, MachineCommand.self, ApplianceAgentCommand.self,
            RecoverySessionCommand.self, RunJobCommand.self,
            VolumeSnapshotGuardCommand.self,
        ])
}

enum ProgramVersion {
    static let text = "0.1.0"
}

/// The session that the first process of the recovery environment starts; a hidden command.
struct RecoverySessionCommand: ServantCommand {
    static let configuration = CommandConfiguration(
        commandName: "recovery-session", abstract: "Runs the recovery environment's session.", shouldDisplay: false)

    func run() throws {
        throw ExitCode(RecoveryInit.runSession())
    }
}

/// The process that removes LVM snapshots if the capture that made them dies; a hidden command.
struct VolumeSnapshotGuardCommand: ServantCommand {
    static let configuration = CommandConfiguration(commandName: "snapshot-guard", shouldDisplay: false)
    @Argument var tag: String

    func run() throws {
        throw ExitCode(VolumeSnapshotGuard.run(tag))
    }
}
