// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import JobModel
import LinuxSystem
import SystemPackage

/// The doctor's findings on a disk of this machine, kept on the medium until its end: `support.tar.zst` holds them.
struct KeptFindings {
    /// Where the session of the medium looks for them. In memory, like all of /run.
    static let folder: FilePath = "/run/reforge/findings"

    private let report: DoctorReport
    private let name: String
    private let folder: FilePath?

    /// Writes the findings; nothing outside the medium. They are no part of the job, which a failure does not stop.
    /// - Parameter folder: `nil` for nowhere.
    init(
        _ report: DoctorReport, disk: String,
        in folder: FilePath? = SystemFacts.isRecoveryEnvironment ? Self.folder : nil
    ) {
        self.report = report
        name = "doctor-\(Self.plainName(disk))"
        self.folder = folder
        write([])
    }

    /// Adds what boot repair did about them.
    func add(_ outcome: BootRepairOutcome) {
        write(
            outcome.changed.map { "  changed: \($0)" } + outcome.warnings.map { "  warning: \($0)" }
                + (outcome.pending.map { ["  not finished: \($0)"] } ?? []))
    }

    private func write(_ lines: [String]) {
        guard let folder else { return }
        let text = (report.lines + lines).map { $0.printable + "\n" }.joined()
        try? Files.makeFolders(folder)
        try? Files.write(Array(text.utf8), to: folder.appending("\(name).txt"))
        if let json = try? report.json() { try? Files.write(json + [10], to: folder.appending("\(name).json")) }
    }

    /// The last part of a path, as a part of a file's name: `sda`.
    static func plainName(_ disk: String) -> String {
        let last = disk.split(separator: "/").last ?? "disk"
        return String(
            last.prefix(64).map { $0.isASCII && ($0.isLetter || $0.isNumber || "._".contains($0)) ? $0 : "-" })
    }
}
