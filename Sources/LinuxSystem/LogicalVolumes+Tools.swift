// SPDX-License-Identifier: GPL-3.0-or-later
import SystemPackage

extension LogicalVolumes {
    /// Asks LVM for all volumes of the machine, with no more than a read lock.
    package static func survey() throws(LogicalVolumeError) -> LogicalVolumes {
        let physical = try run(["pvs"] + columnArguments(physicalColumns))
        let logical = try run(["lvs", "--segments"] + columnArguments(segmentColumns))
        return try parse(pvs: physical, lvs: logical)
    }

    /// Creates a read-only snapshot of a volume; a mounted filesystem on it is frozen for that moment.
    /// - Parameters:
    ///   - volume: `group/name`.
    ///   - extentCount: the room for blocks that are overwritten in the volume during the snapshot's lifetime.
    package static func createSnapshot(
        of volume: String, named name: String, tags: [String], extentCount: UInt64
    ) throws(LogicalVolumeError) {
        _ = try run(
            ["lvcreate", "--snapshot", "--yes", "--permission", "r", "--name", name]
                + tags.flatMap { ["--addtag", $0] } + ["--extents", String(extentCount)] + quietly + [volume])
    }

    /// Removes a snapshot. Retries, because its device may still be open for a moment (udev looks at everything).
    package static func removeSnapshot(_ name: String) throws(LogicalVolumeError) {
        var tries = 5
        while true {
            do {
                _ = try run(["lvremove", "--force", "--yes"] + quietly + [name])
                return
            } catch {
                tries -= 1
                guard tries > 0 else { throw error }
                SystemFacts.sleep(seconds: 1)
            }
        }
    }

    /// The state of a snapshot: whether it still shows its original content.
    package struct SnapshotState: Equatable, Sendable {
        /// `group/name`.
        package var fullName: String
        /// Whether it is damaged or ran out of room.
        package var isInvalid: Bool
        /// How full it is, in percent: "12.34".
        package var percent: String
    }

    /// The states of all snapshots with a tag.
    package static func snapshots(tagged tag: String) throws(LogicalVolumeError) -> [SnapshotState] {
        let text = try run(
            ["lvs"] + columnArguments("vg_name,lv_name,lv_attr,snap_percent,lv_snapshot_invalid") + ["@\(tag)"])
        return try parse(states: text)
    }

    /// From the output of `lvs` with those columns.
    static func parse(states text: String) throws(LogicalVolumeError) -> [SnapshotState] {
        var states: [SnapshotState] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: "|", omittingEmptySubsequences: false).map { String($0).trimmed }
            guard fields.count == 5, fields[2].count >= 6 else {
                throw LogicalVolumeError("lvs printed an unexpected line: \"\(line.prefix(200))\"")
            }
            let attributes = Array(fields[2])
            // Anything but a plain active snapshot is no good (lv_attr: `I` invalid, `S` suspended
            // and invalid, `X` unknown).
            let isGood =
                attributes[0] == "s" && attributes[4] == "a" && fields[4].isEmpty
                && !fields[3].isEmpty && fields[3] != "100.00"
            states.append(
                SnapshotState(fullName: "\(fields[0])/\(fields[1])", isInvalid: !isGood, percent: fields[3]))
        }
        return states
    }

    private static func columnArguments(_ columns: String) -> [String] {
        ["--noheadings", "--separator", "|", "--units", "b", "--nosuffix", "-o", columns]
    }

    /// A snapshot for one capture needs no monitoring daemon.
    private static let quietly = ["--config", "activation/monitoring=0"]

    private static func run(_ arguments: [String]) throws(LogicalVolumeError) -> String {
        let tool = arguments.first ?? ""
        // Where udev runs, LVM leaves the nodes to it; elsewhere (the recovery environment) it creates them itself.
        let hasUdev = Files.exists("/run/udev/control")
        let environment = ChildProcess.plainEnvironment.filter { !hasUdev || !$0.hasPrefix("DM_DISABLE_UDEV") }
        let output: ChildProcess.Output
        do {
            output = try ChildProcess.run(arguments, environment: environment, timeoutSeconds: 120)
        } catch {
            throw LogicalVolumeError(
                error.errno == .noSuchFileOrDirectory
                    ? "\(tool) is not installed (Debian's package lvm2 has it)" : "\(error)")
        }
        guard output.succeeded else {
            throw LogicalVolumeError(
                "\(arguments.joined(separator: " ")) failed (\(output.ending)): \(output.lastWords)")
        }
        return output.text
    }
}
