// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import ArgumentParser
import DiskModel
import JobModel
import LinuxSystem
import Operations

/// The machine that reads the files.
struct ApplianceOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The folder with the recovery medium's vmlinuz and initramfs.img (default: $\(ApplianceMedia.variable), media/ beside the program, \(ApplianceMedia.installed)).",
            valueName: "dir"))
    var media: String?
    @Flag(help: "Do not use KVM, only emulation, which is slower.") var noKvm = false
    @OptionGroup var luks: LUKSOptions

    var choice: ApplianceChoice {
        var choice = ApplianceChoice()
        (choice.media, choice.allowsKVM, choice.luksKeyFiles) = (media, !noKvm, luks.luksKeyFile)
        return choice
    }
}

struct FilesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "files",
        abstract: "Lists, copies and finds files of an image, a snapshot or a disk.",
        discussion: """
            The recovery medium runs in a virtual machine (QEMU) and reads the filesystems, so that this machine's \
            kernel mounts nothing of the image. It needs no root.

            A path names a partition (3:/etc/fstab; 0:/ on a disk without a table), a logical volume \
            (vg0/root:/etc/fstab), or the place in the installed system (/etc/fstab, found by its fstab). Of a Btrfs, \
            N:/ is the top level, with each subvolume as a folder.

            Examples:

              reforge files ls repo@latest
              reforge files ls repo@latest 3:/home
              reforge files get laptop.img.zst /home/anna/thesis /tmp/restored
              reforge files tar repo@2026-11-22 vg0/srv:/ - | tar -tvf -
              reforge files find laptop.img.zst 2:/ --name '*.odt' --newer 2026-11-01

            Exit codes: 65 if files of the image could not be read, 73 if some could not be written here; all others \
            were copied.
            """,
        subcommands: [ListFiles.self, GetFiles.self, TarFiles.self, FindFiles.self])

    /// What all of them have in common.
    struct Options: ParsableArguments {
        @OptionGroup var appliance: ApplianceOptions
        @Flag(help: "Print one JSON object.") var json = false
        @OptionGroup var keys: KeyOptions
        @OptionGroup var backing: BackingOptions
        @OptionGroup var events: EventOptions

        func run(
            _ image: String, _ action: FilesJob.Action, resultIsOutput: Bool = false,
            entryLine: ((FilesReport.Found) -> String)? = nil, lines: (FilesReport) -> [String]
        ) throws {
            var job = FilesJob(image: image, action: action)
            job.appliance = appliance.choice
            job.allowsBacking = backing.allowBacking
            let sink = events.sink("files")
            try CommandRun.run(json: json && !resultIsOutput) { cancellation in
                // Lines are printed as they are found: a disk can have millions of files.
                let receive = entryLine.map { line in { found in try Console.result(line(found)) } }
                let operation = FilesOperation(
                    job, keys: KeyRing(keys, sink, cancellation), events: sink, receive: json ? nil : receive)
                let report = try operation.run()
                if json, !resultIsOutput {
                    try Console.json(report)
                } else {
                    for line in lines(report) { resultIsOutput ? Console.message(line) : try Console.result(line) }
                    if report.problemCount > 0 { Console.message("\(report.problemCount) problems: see above") }
                }
                return report.outcome.status
            }
        }
    }

    static func summary(_ report: FilesReport) -> String {
        "\(report.fileCount) files and \(report.folderCount) folders, \(ByteText.rounded(report.byteCount))"
            + (report.leftOutCount > 0 ? "; \(report.leftOutCount) devices or sockets left out" : "")
    }
}

struct ListFiles: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls", abstract: "Lists a folder, or the volumes of an image.",
        discussion:
            "JSON fields: schema (1), volumes [{name, kind, label, uuid, byteCount, layers, obstacle}] or entries [{path, pathBytes, kind, permissions, owner, group, byteCount, linkCount, modified, target}], problemCount, problems [{path, why, cause}], seconds."
    )
    @Argument(help: "The image, snapshot or disk.") var image: String
    @Argument(help: "The folder or file: 3:/path, vg/lv:/path or /path. Without it, the volumes are listed.")
    var path: String?
    @OptionGroup var options: FilesCommand.Options

    func run() throws {
        try options.run(image, path.map { .list($0) } ?? .volumes, entryLine: \.line) { report in
            guard let volumes = report.volumes else { return [] }
            return TextTable.lines(
                ["PATH", "HOLDS", "SIZE", "LABEL", "REMARK"],
                volumes.map {
                    [
                        "\($0.name):/",
                        ($0.layers + [$0.kind.isEmpty ? "unknown" : $0.kind]).joined(separator: " → "),
                        ByteText.rounded($0.byteCount), $0.label, $0.obstacle ?? "",
                    ]
                })
        }
    }
}

struct FindFiles: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "find", abstract: "Finds files at and below a path.",
        discussion: "JSON fields: as of `reforge files ls`.")
    @Argument(help: "The image, snapshot or disk.") var image: String
    @Argument(help: "Where to begin: 3:/path, vg/lv:/path or /path.") var path: String
    @Option(help: ArgumentHelp("A pattern of the name, with *, ? and [...].", valueName: "glob")) var name: String?
    @Option(help: ArgumentHelp("Modified after this time: 2026-11-01 or 2026-11-01T12:00Z.", valueName: "time"))
    var newer: String?
    @Option(help: "f (files), d (folders) or l (links).") var type: String?
    @Flag(name: .shortAndLong, help: "Show facts as ls does, not only paths.") var long = false
    @OptionGroup var options: FilesCommand.Options

    func run() throws {
        var criteria = FileCriteria()
        (criteria.name, criteria.type) = (name, type)
        if let newer {
            guard let time = TimeText(newer) else { throw ValidationError("--newer takes a time, such as 2026-11-01") }
            criteria.newerThan = time.unixSeconds
        }
        try options.run(image, .find(path, criteria), entryLine: { long ? $0.line : $0.path }) { _ in [] }
    }
}

struct GetFiles: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Copies files and folders of an image into a folder of this machine.",
        discussion: """
            Times, permissions, extended attributes, ACLs, hard links and holes are kept; owners only as root. What the \
            destination cannot hold is said once. A file that cannot be read is named, and the others are copied.

            JSON fields: schema (1), fileCount, folderCount, byteCount, leftOutCount, problemCount, \
            problems [{path, why, cause}], seconds.
            """)
    @Argument(help: "The image, snapshot or disk.") var image: String
    @Argument(help: "Files and folders of the image, and the folder they are copied into.") var paths: [String]
    @Flag(help: "Replace files that exist, and copy into folders that exist.") var overwrite = false
    @OptionGroup var options: FilesCommand.Options

    func validate() throws {
        guard paths.count >= 2 else {
            throw ValidationError("get takes at least one path of the image, and a destination")
        }
    }

    func run() throws {
        let action = FilesJob.Action.get(
            paths: Array(paths.dropLast()), destination: paths.last ?? "", overwrites: overwrite)
        try options.run(image, action) { ["copied \(FilesCommand.summary($0))"] }
    }
}

struct TarFiles: MountingCommand {
    static let configuration = CommandConfiguration(
        commandName: "tar", abstract: "Writes files and folders of an image as a tar archive (pax format).",
        discussion: """
            The archive holds owners, permissions, times, extended attributes (ACLs among them), holes, hard links and \
            device nodes. JSON fields (not with - as FILE): as of `reforge files get`.
            """)
    @Argument(help: "The image, snapshot or disk.") var image: String
    @Argument(help: "Files and folders of the image, and the archive: a file, or - for standard output.")
    var paths: [String]
    @Flag(help: "Replace an existing archive.") var overwrite = false
    @OptionGroup var options: FilesCommand.Options

    func validate() throws {
        guard paths.count >= 2 else {
            throw ValidationError("tar takes at least one path of the image, and a file or -")
        }
    }

    func run() throws {
        let file = paths.last ?? "-"
        try options.run(
            image, .tar(paths: Array(paths.dropLast()), file: file, overwrites: overwrite), resultIsOutput: file == "-"
        ) { ["archived \(FilesCommand.summary($0))"] }
    }
}

/// The agent inside the appliance; a hidden command.
struct ApplianceAgentCommand: ServantCommand {
    static let configuration = CommandConfiguration(commandName: ApplianceAgent.command, shouldDisplay: false)

    func run() throws {
        throw ExitCode(ApplianceAgent.run())
    }
}
