// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// Runs the job in a file like the command of its kind, for programs that follow its events; a hidden command.
struct RunJobCommand: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "run-job", abstract: "Runs the job in a file.", shouldDisplay: false)

    @Argument(help: "The job, as JSON.") var file: String
    @OptionGroup var eventOptions: EventOptions

    /// The longest job file, in bytes.
    private static let limit = 1 << 20

    func run() throws {
        let job: JobFile
        do {
            let bytes = try Files.read(FilePath(file), limit: Self.limit + 1)
            job = try JSONText.decode(JobFile.self, bytes)
            guard bytes.count <= Self.limit, job.schema == 1 else { throw ValidationError("schema \(job.schema)") }
        } catch { throw ValidationError("\(file) is not a job file: \(error)") }
        var keys = KeyOptions()
        keys.passwordFile = job.passwordFile
        let events = eventOptions.sink(job.job.operation)
        switch job.job {
        case .restore(let job): try RestorePresenter(job: job, json: false).run(keys, events)
        case .capture(let job): try CapturePresenter(job: job, json: false).run(keys, events)
        case .copy(let job):
            try CopyPresenter(job: job, json: false).run(keys, keys, hasOwnPassword: false, events)
        case .verify(let job): try VerifyPresenter(job: job, json: false).run(keys, events)
        case .repairBoot(let job): try BootRepairPresenter(job: job, json: false).run(events)
        }
    }
}
