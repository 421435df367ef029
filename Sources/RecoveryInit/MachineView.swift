// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage

/// The session's view of the machine: its disks and volumes, and waiting for missing ones.
final class MachineView {
    private let directory = DiskDirectory()
    private var modules = HardwareModules()
    private var firmware: FirmwareSupply?
    private let say: (String) -> Void
    /// The medium, after `lookForMedium`.
    private(set) var medium = Medium()

    init(say: @escaping (String) -> Void) {
        self.say = say
        firmware = FirmwareSupply(say: say)
    }

    /// Loads modules for everything found so far.
    func loadModules() {
        HardwareModules.load(HardwareModules.always)
        // A bus driver brings devices, whose drivers bring devices.
        for _ in 0..<16 where !modules.loadForNewDevices() { break }
    }

    /// Gives drivers the firmware that they lack, and waits for their devices. Call it after `lookForMedium`.
    /// - Returns: whether there was any.
    @discardableResult
    func supplyFirmware() -> Bool {
        guard firmware?.supply(medium) == true else { return false }
        waitForDevices(SettleRule(limit: 10))
        return true
    }

    /// Brings up the network. Some cards ask for their firmware only then.
    func bringUpNetwork() throws(JobFailure) {
        do throws(JobFailure) { try Network(say: say).bringUp() } catch {
            guard supplyFirmware() else { throw error }
            try Network(say: say).bringUp()
        }
    }

    /// Why disks may be missing, as a sentence.
    var hiddenDisks: String? {
        HiddenDisks.warning(controllers: directory.storageControllers(), kernelLog: KernelLog.records())
    }

    /// All volumes, listed again.
    func volumes() -> [BlockVolume] { BlockVolume.all(directory) }

    /// Looks for the medium, and publishes its disks for the other commands.
    func lookForMedium(in volumes: [BlockVolume]? = nil) {
        medium = Medium.find(in: volumes ?? self.volumes())
        medium.publish()
    }

    /// The disks below `volume`.
    func disksBelow(_ volume: BlockVolume) -> [String] { directory.disksBelow(volume.node) }

    /// All disks; those with the medium, the image or the scratch are marked.
    func disks(imageDisks: [String] = [], scratchDisks: [String] = []) -> [DiskCandidate] {
        let exclusions: [(disks: [String], reason: DiskCandidate.Exclusion)] = [
            (medium.disks, .medium), (imageDisks, .image), (scratchDisks, .scratch),
        ]
        return directory.diskNames().map { name in
            let path = FilePath("/dev/\(name)")
            let sequence = Files.text(FilePath("/sys/block/\(name)/diskseq")).flatMap { UInt64($0) }
            return DiskCandidate(
                identity: directory.identity(path: path, kernelName: name, diskSequence: sequence),
                byteCount: directory.byteCount(of: name) ?? 0, isRemovable: directory.isRemovable(name),
                exclusion: exclusions.first { $0.disks.contains(name) }?.reason)
        }
    }

    /// Waits until disks have appeared and no more follow.
    /// - Parameter wanted: whether the needed device exists, evaluated after each change and once a second; `nil` if no
    ///   particular device is needed.
    func waitForDevices(_ rule: SettleRule, until wanted: (() -> Bool)? = nil) {
        let start = SystemFacts.monotonicSeconds()
        var lastNews = start
        var known: [String: UInt64]?
        var isThere: Bool?
        var lastAsked = start
        while true {
            if modules.loadForNewDevices() { lastNews = SystemFacts.monotonicSeconds() }
            let nodes = BlockVolume.nodes()
            if nodes != known {
                known = nodes
                lastNews = SystemFacts.monotonicSeconds()
                isThere = wanted.map { $0() }
                lastAsked = lastNews
            }
            let now = SystemFacts.monotonicSeconds()
            if isThere == false, now - lastAsked >= 1 {
                isThere = wanted.map { $0() }
                lastAsked = SystemFacts.monotonicSeconds()
            }
            let isOver = rule.isOver(
                elapsed: now - start, sinceNews: now - lastNews, diskCount: directory.diskNames().count,
                wantedIsThere: isThere)
            if isOver { return }
            SystemFacts.sleep(seconds: 0.2)
        }
    }

    /// The volume named by a location; waits for it.
    func waitForVolume(_ name: ImageAddress.VolumeName) throws(JobFailure) -> BlockVolume {
        if let volume = try? BlockVolume.choose(name, from: volumes()) { return volume }
        say("Waiting for the volume \(name.description.printable) ...")
        waitForDevices(SettleRule()) { (try? BlockVolume.choose(name, from: self.volumes())) != nil }
        return try BlockVolume.choose(name, from: volumes())
    }

    /// The disk that a selector chooses, waiting for it if missing.
    /// - Parameter reading: whether it is only read, as in a capture.
    func waitForDisk(
        _ selector: DiskSelector, imageDisks: [String], scratchDisks: [String] = [], reading: Bool = false
    ) throws(JobFailure) -> DiskCandidate {
        func candidates() -> [DiskCandidate] { disks(imageDisks: imageDisks, scratchDisks: scratchDisks) }
        if !candidates().contains(where: selector.matches) {
            say("Waiting for a disk with \(selector.description.printable) ...")
            waitForDevices(SettleRule()) { candidates().contains(where: selector.matches) }
        }
        guard selector.isOpen else { return try selector.choose(from: candidates(), reading: reading) }
        if directory.isProbing {
            say("Waiting for drivers that still look for disks ...")
            waitForDevices(SettleRule()) { !self.directory.isProbing }
        }
        let first = try selector.choose(from: candidates(), reading: reading)
        say(
            "\(first.identity.path) fits; watching for \(Int(SteadyDisk.watchSeconds)) s whether another disk appears ..."
        )
        var steady = SteadyDisk(selector, reading: reading)
        let start = SystemFacts.monotonicSeconds()
        repeat {
            _ = modules.loadForNewDevices()
            steady.look(at: candidates())
            SystemFacts.sleep(seconds: 0.5)
        } while SystemFacts.monotonicSeconds() - start < SteadyDisk.watchSeconds
            || directory.isProbing
                && SystemFacts.monotonicSeconds() - start < SettleRule().limit
        let last = candidates()
        steady.look(at: last)
        return try steady.choose(from: last)
    }
}
