// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage

/// The firmware's boot entries, through efibootmgr.
enum FirmwareEntries {
    /// Reads the entries and the partitions of all disks.
    static func survey() -> NVRAMSurvey {
        mountVariables()
        let output: ChildProcess.Output
        do { output = try run(["-v"]) } catch { return NVRAMSurvey(problem: error.description) }
        guard output.succeeded else {
            let words = String(output.lastWords.reversed().drop { $0 == "." }.reversed())
            return NVRAMSurvey(problem: "efibootmgr failed: \(words)")
        }
        var survey = NVRAMSurvey(efibootmgr: output.text)
        for name in DiskDirectory().diskNames() {
            guard let disk = try? BlockDevice(opening: FilePath("/dev/\(name)")),
                let table = try? PartitionTableReader.read(disk)
            else { continue }
            survey.attachedPartitions += table.partitions.map(\.guid)
        }
        return survey
    }

    /// The kernel exposes the variables in efivarfs; in the recovery environment, nothing mounts it automatically.
    static func mountVariables() {
        guard SystemFacts.isRecoveryEnvironment else { return }
        let place = FilePath("/sys/firmware/efi/efivars")
        guard Files.exists(place), Files.names(in: place).isEmpty else { return }
        try? Mount.permanent("efivarfs", on: place, type: "efivarfs")
    }

    /// Adds an entry, first in the order.
    static func add(label: String, disk: String, partition: Int, path: String) throws(SystemCallError)
        -> ChildProcess.Output
    {
        try run(["--create", "--disk", "/dev/\(disk)", "--part", "\(partition)", "--label", label, "--loader", path])
    }

    /// Puts an entry first in the order, and makes it active.
    static func putFirst(_ number: String) throws(SystemCallError) -> ChildProcess.Output {
        _ = try run(["--bootnum", number, "--active"])
        let order = NVRAMSurvey(efibootmgr: try run(["-v"]).text).bootOrder.filter { $0 != number }
        return try run(["--bootorder", ([number] + order).joined(separator: ",")])
    }

    /// Removes an entry.
    static func remove(_ number: String) throws(SystemCallError) -> ChildProcess.Output {
        try run(["--bootnum", number, "--delete-bootnum"])
    }

    private static func run(_ arguments: [String]) throws(SystemCallError) -> ChildProcess.Output {
        try ChildProcess.run(["efibootmgr"] + arguments, timeoutSeconds: 120)
    }
}
