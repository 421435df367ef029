// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// Runs the menu: asks on all consoles, and continues on the one that answered.
final class MenuSession {
    private let console: SessionConsole
    private let machine: MachineView
    private let runner: JobRunner
    private let log: SavedLog
    /// The job of the settings that was done before, and its mark.
    private let doneJob: DoneJob?
    private var images: [FoundImage] = []
    private var disks: [DiskCandidate] = []
    private var bitLocker: [BlockVolume] = []
    private var hiddenDisks: String?
    /// Whether the lists must be refreshed before they are shown.
    private var isStale = true

    /// A job that is repeated only on request.
    struct DoneJob {
        var mark: String
        var settings: RecoverySettings
        var job: RecoverySettings.Job
    }

    init(
        console: SessionConsole, machine: MachineView, runner: JobRunner, log: SavedLog, doneJob: DoneJob? = nil
    ) {
        self.doneJob = doneJob
        self.console = console
        self.machine = machine
        self.runner = runner
        self.log = log
    }

    /// A dialogue was left: by an empty line, by input at another console, or because PID 1 is gone.
    private struct Abandoned: Error {}

    /// Runs until the user ends the machine. Returns the way it ends.
    func run() -> MachineEnd? {
        // Not shown again while a shell was just opened: it would scroll away the lines above the shell's first prompt.
        var isShown = false
        while !console.isDeserted {
            if isStale { lookAround() }
            if !isShown {
                console.say(
                    Menu.text(
                        images: images, disks: disks, hiddenDisks: hiddenDisks, bitLocker: bitLocker,
                        doneJob: doneJob?.mark))
                console.dropTyped()
                console.prompt("Number: ")
            }
            isShown = false
            guard let reply = console.nextReply() else { continue }
            guard
                let choice = Menu.choice(
                    reply.text, hasDoneJob: doneJob != nil, hasBitLocker: !bitLocker.isEmpty)
            else {
                if !reply.text.isEmpty {
                    console.say("\"\(reply.text.prefix(40).description.printable)\" is not one of the numbers.")
                }
                continue
            }
            switch choice {
            case .reboot: return .reboot
            case .powerOff: return .poweroff
            case .shell:
                console.say("A rescue shell opens on \(reply.console); the menu continues on the other consoles.")
                console.openShell(on: reply.console)
                isShown = true
            case .lookAgain: isStale = true
            default: converse(choice, with: reply.console)
            }
        }
        return nil
    }

    private func lookAround() {
        console.say("Looking for disks and images ...")
        var volumes = machine.volumes()
        machine.lookForMedium(in: volumes)
        // A card that asked for its firmware late, and perhaps its disks.
        if machine.supplyFirmware() { volumes = machine.volumes() }
        images = ImageListing.images(on: volumes)
        bitLocker = volumes.filter { $0.type == OpenedBitLocker.type }
        disks = machine.disks()
        hiddenDisks = machine.hiddenDisks
        isStale = false
    }

    private func converse(_ choice: Menu.Choice, with name: String) {
        do {
            switch choice {
            case .restore: try restore(name)
            case .capture: try capture(name)
            case .bootRepair: try repairBoot(name)
            case .network: try runner.bringUpNetwork()
            case .repeatJob: try repeatJob(name)
            case .bitLocker: try openBitLocker(name)
            default: break
            }
        } catch let error as JobFailure {
            console.say("error: \(error.message)")
            finished(JobOutcome(error))
        } catch {
            console.say("Back to the menu.")
        }
    }

    // MARK: Dialogues

    private func restore(_ name: String) throws {
        console.say("Which image?\n" + Menu.numbered(images.map(\.line)))
        var image = try ask("Number, or LABEL=NAME:/path, UUID=...:/path, /dev/...:/path, http://host/path: ", name) {
            text in
            if let index = Menu.number(text, of: images.count) { return images[index].location }
            return try ImageAddress.parse(setting: text)
        }
        let password = try askPassword(image, name)
        defer { withExtendedLifetime(password) {} }
        if image.description.hasSuffix("@") { image = try askSnapshot(image, password, name) }
        let target = try askDisk("Onto which disk? EVERYTHING on it is replaced.", name, reading: false)
        // Named by its path in the kernel: the user chose it from the current list of disks.
        var job = RecoverySettings.Restore(image: image, target: .node(target.identity.path))
        job.firmware = try askFirmware(image, password, name)
        let plan = try runner.restore(job, password: password?.path, confirmed: false)
        guard plan.status == ExitStatus.done.rawValue else {
            return finished(
                JobOutcome(plan.status, "No valid plan was found (\(plan.status)); nothing was written."))
        }
        let wanted = target.identity.confirmationText.strippedSpaces
        console.say(
            "To restore, type \(wanted.printable) (the disk's \(target.identity.serial == nil ? "name" : "serial number"), or \(target.identity.kernelName ?? "its name"))."
        )
        try confirm(target.identity, name)
        finished(try runner.restore(job, password: password?.path))
    }

    private func capture(_ name: String) throws {
        let disk = try askDisk("Which disk?", name, reading: true)
        let volumes = machine.volumes().filter {
            $0.disk != disk.identity.kernelName && $0.isMountable(writable: true)
                && $0.label != Medium.bootLabel
        }
        let repositories = images.filter(\.isRepository)
        console.say("Where to?\n" + Menu.numbered(volumes.map(\.line) + repositories.map(\.line)))
        let path = "/" + Menu.imageName(for: disk.identity, utc: SystemFacts.utcText(SystemFacts.unixSeconds()))
        let place = try ask("Number (the image is called \(path)), or LABEL=NAME:/path, UUID=...:/path: ", name) {
            text in
            guard let index = Menu.number(text, of: volumes.count + repositories.count) else {
                return try ImageAddress.parse(setting: text)
            }
            return index < volumes.count
                ? ImageAddress.volume(volumes[index].locationName(among: machine.volumes()), path: path)
                : repositories[index - volumes.count].location
        }
        let password = place.description.hasSuffix("@") ? try askPassword(place, name) : nil
        defer { withExtendedLifetime(password) {} }
        finished(try runner.capture(.node(disk.identity.path), to: place, password: password?.path))
    }

    /// The password of an encrypted image or repository; `nil` if none is needed.
    private func askPassword(_ image: ImageAddress, _ name: String) throws -> PasswordFile? {
        let text = image.description.lowercased()
        guard try text.hasSuffix(".img.enc") || text.hasSuffix("@") && runner.isEncrypted(image) else { return nil }
        return try ask("Password (it shows as you type): ", name) { try PasswordFile(Array($0.utf8)) }
    }

    /// Asks whether a disk that does not start by this machine's firmware is to be converted.
    private func askFirmware(
        _ image: ImageAddress, _ password: PasswordFile?, _ name: String
    ) throws -> FirmwareChoice {
        guard let found = runner.boot(of: image, password: password?.path), let boot = found.boot,
            let question = Menu.firmwareQuestion(
                boot, startsByBIOS: found.startsByBIOS, isUEFI: Files.exists("/sys/firmware/efi"))
        else { return .keep }
        console.say(question.text + "\n" + Menu.numbered(question.answers.map(\.text)))
        return try ask("Number: ", name) { text in
            guard let index = Menu.number(text, of: question.answers.count) else {
                throw JobFailure(.usage, "That is not one of the numbers.")
            }
            return question.answers[index].choice
        }
    }

    /// Asks for a snapshot of a repository.
    private func askSnapshot(_ repository: ImageAddress, _ password: PasswordFile?, _ name: String) throws
        -> ImageAddress
    {
        guard try runner.listSnapshots(repository, password: password?.path) == ExitStatus.done.rawValue else {
            throw JobFailure(.notFound, "The snapshots of \(repository) could not be listed.")
        }
        return try ask("Which snapshot (the start of its id, latest, HOST/latest, a time)? ", name) { text in
            try ImageAddress.parse(setting: repository.description + text)
        }
    }

    private func repairBoot(_ name: String) throws {
        let disk = try askDisk("Which disk?", name, reading: false)
        let plan = runner.repairBoot(of: disk, confirmed: false)
        guard plan.status == ExitStatus.done.rawValue else { return finished(plan) }
        _ = try ask("Type yes to do this, or press Enter to cancel: ", name) { text in
            guard text.lowercased() == "yes" else { throw JobFailure(.usage, "Only yes is accepted.") }
        }
        finished(runner.repairBoot(of: disk, confirmed: true))
    }

    private func repeatJob(_ name: String) throws {
        guard let doneJob else { return }
        console.say("The job: \(doneJob.job.description.printable)")
        _ = try ask("Type yes to do it again, or press Enter to cancel: ", name) { text in
            guard text.lowercased() == "yes" else { throw JobFailure(.usage, "Only yes is accepted.") }
        }
        finished(try runner.run(doneJob.job, doneJob.settings))
    }

    private func openBitLocker(_ name: String) throws {
        console.say("Which volume?\n" + Menu.numbered(bitLocker.map(\.line)))
        let offered = bitLocker
        let volume = try ask("Number: ", name) { text in
            guard let index = Menu.number(text, of: offered.count) else {
                throw JobFailure(.usage, "That is not one of the numbers.")
            }
            return offered[index]
        }
        isStale = true
        if OpenedBitLocker.node(of: volume) != nil {
            try OpenedBitLocker.close(volume)
            return console.say("\(volume.path) is closed again.")
        }
        let node = try ask("Recovery key, 48 digits (it shows as you type): ", name) { text in
            try OpenedBitLocker.open(volume, BitLockerKey(parsing: text))
        }
        console.say(
            "\(volume.path) is open for reading, as \(node). Close it here before its disk is restored or captured.")
    }

    /// The outcome remains on the screen until Enter is pressed: on 24 rows, the following output would scroll it away.
    private func finished(_ outcome: JobOutcome) {
        isStale = true
        log.saveQuietly(on: machine.medium, console)
        console.present(outcome, waits: true)
        console.waitForEnter()
    }

    private func askDisk(_ question: String, _ name: String, reading: Bool) throws -> DiskCandidate {
        let offered = machine.disks().filter { reading || $0.exclusion == nil }
        guard !offered.isEmpty else {
            throw JobFailure(.notFound, "There is no suitable disk. \(machine.hiddenDisks ?? "")".strippedSpaces)
        }
        console.say(question + "\n" + Menu.numbered(offered.map(\.line)))
        return try ask("Number: ", name) { text in
            guard let index = Menu.number(text, of: offered.count) else {
                throw JobFailure(.usage, "That is not one of the numbers.")
            }
            return offered[index]
        }
    }

    private func confirm(_ disk: DiskIdentity, _ name: String) throws {
        _ = try ask("> ", name) { text in
            guard Menu.confirms(text, disk) else {
                throw JobFailure(.usage, "That does not match. Nothing was written.")
            }
        }
    }

    /// Asks until the answer is valid. An empty line returns to the menu; so does `menu` at another console.
    private func ask<Answer>(_ prompt: String, _ name: String, _ parse: (String) throws -> Answer) throws -> Answer {
        for _ in 0..<20 {
            console.dropTyped()
            console.prompt("(\(name); an empty line returns to the menu) \(prompt)")
            var reply: SessionConsole.Reply?
            while reply?.console != name {
                reply = console.nextReply()
                guard let reply else {
                    if console.isDeserted { throw Abandoned() }
                    continue
                }
                if reply.console != name, reply.text.lowercased() == "menu" { throw Abandoned() }
            }
            guard let reply, !reply.text.isEmpty else { throw Abandoned() }
            do {
                return try parse(reply.text)
            } catch let error as JobFailure {
                console.say(error.message)
            }
        }
        throw Abandoned()
    }
}
