// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// Changes the length of an LVM2 physical volume that is the only one of its group, and of the logical volumes and
/// filesystems in it. Each step is done by LVM or by a filesystem's own tool.
package enum VolumeGroupResizer {
    /// The physical volume's new length, and the reasons why some filesystems were not grown with their volumes.
    package typealias Growth = (outcome: FilesystemResizer.Outcome, failures: [String])

    /// Why this machine cannot resize a physical volume of that group, as a sentence part; `nil`
    /// without a known obstacle.
    package static func obstacle(to group: FilesystemInfo.VolumeGroup) -> String? {
        if !ChildProcess.canFind("lvm") { return "`lvm` is not installed (Debian package lvm2)" }
        if let obstacle = CompositeDevice.obstacle() { return obstacle }
        // pvmove uses it to copy.
        _ = try? ChildProcess.run(["modprobe", "-q", "dm-mirror"])
        let targets = (try? ChildProcess.run(["dmsetup", "targets"]))?.text ?? ""
        guard targets.split(separator: "\n").contains(where: { $0.split(separator: " ").first == "mirror" }) else {
            return "this kernel's device-mapper has no mirrors"
        }
        return activeTwin(of: group)
    }

    /// Why the group would be confused with an active one of this machine; `nil` without one.
    static func activeTwin(of group: FilesystemInfo.VolumeGroup) -> String? {
        let devices = MappedDevice.all()
        guard
            let device = devices.first(where: {
                $0.uuid.hasPrefix("LVM-\(group.id)") || $0.isOf(groupNamed: group.name)
            })
        else { return nil }
        return "a volume group named \(group.name), or a copy of it, is active on this machine (\(device.name)): "
            + "deactivate it first (vgchange -an \(group.name)), or restore in the recovery environment"
    }

    /// Grows a physical volume to fill its place.
    /// - Parameters:
    ///   - filesystem: the physical volume, as surveyed at its capture.
    ///   - byteCounts: the new lengths of its volumes, in the order of `filesystem.inner`; none is less than before.
    ///   - place: its present place, including the room to fill.
    ///   - log: receives the commands and their output.
    package static func grow(
        _ filesystem: FilesystemInfo, to byteCounts: [UInt64], on place: ResizePlace,
        log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) -> Growth {
        let (group, volumes) = try contents(filesystem, byteCounts)
        var growth: Growth = (.init(byteCount: try place.slice().byteCount, remarks: []), [])
        try working(on: place, filesystem, group, log) { work throws(ResizeError) in
            try work.checkIsCaptured(volumes.map(\.volume))
            var inDoubt: ResizeError?
            do throws(ResizeError) {
                try work.change("pvresize", ["-y", work.job.node])
                let growing = volumes.filter { $0.byteCount > $0.volume.byteCount }
                for (volume, byteCount) in growing {
                    let extents = byteCount / group.extentByteCount
                    try work.change("lvextend", ["--alloc", "anywhere", "-l", "\(extents)", volume.name])
                }
                if !growing.isEmpty {
                    try work.active { () throws(ResizeError) in
                        for (volume, _) in growing { try grow(volume, work, log, &growth, &inDoubt) }
                    }
                }
                try checkResult(work, volumes)
            } catch {
                throw inDoubt ?? afterFailure(error, work, volumes)
            }
        }
        return growth
    }

    /// A growth that stopped between two of LVM's commits has left whole volumes, each at least as long as before, if
    /// LVM's own checks confirm it and no device is left over.
    private static func afterFailure(_ error: ResizeError, _ work: VolumeGroupWork, _ volumes: Volumes) -> ResizeError {
        guard work.devices.isEmpty, (try? work.checkIsWhole()) != nil, let facts = try? work.facts(),
            let lengths = try? work.lengths(), lengths.count == volumes.count,
            volumes.allSatisfy({ lengths[$0.volume.name] ?? 0 >= $0.volume.byteCount })
        else { return ResizeError(error.problem, state: work.job.inDoubt) }
        let isAsBefore = facts.extentCount == work.group.extentCount
        let (byteCount, _) = facts.extentCount.multipliedReportingOverflow(by: facts.extentByteCount)
        return ResizeError(error.problem, state: isAsBefore ? .asBefore : .whole(byteCount: byteCount))
    }

    private static func grow(
        _ volume: FilesystemInfo.InnerVolume, _ work: VolumeGroupWork, _ log: @escaping (String) -> Void,
        _ growth: inout Growth, _ inDoubt: inout ResizeError?
    ) throws(ResizeError) {
        do throws(ResizeError) {
            let grown = try FilesystemResizer.grow(volume.filesystem, on: work.place(of: ownName(volume)), log: log)
            log("\(volume.name) has grown to \(ByteText.rounded(grown.byteCount))")
            growth.outcome.remarks += grown.remarks.map { "\(volume.name): \($0)" }
        } catch {
            if case .inDoubt = error.state {
                inDoubt = error
                throw error
            }
            growth.failures.append("\(volume.name) was not grown: \(error)")
        }
    }

    /// Shrinks a physical volume to end at `byteCount`: its filesystems, its volumes, then its extents. After a
    /// failure, the contents are useless.
    /// - Parameters:
    ///   - filesystem: the physical volume, as surveyed when it was captured.
    ///   - byteCounts: the new lengths of its volumes, in the order of `filesystem.inner`; none exceeds the old length.
    ///   - byteCount: the new length of the physical volume, in bytes.
    ///   - place: the whole physical volume, including the part to be removed.
    ///   - cancellation: ends the shrink between two steps.
    ///   - log: receives the commands and their output.
    package static func shrink(
        _ filesystem: FilesystemInfo, to byteCounts: [UInt64], byteCount: UInt64, on place: ResizePlace,
        cancellation: Cancellation, log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) -> FilesystemResizer.Outcome {
        let (group, volumes) = try contents(filesystem, byteCounts)
        var outcome = FilesystemResizer.Outcome(byteCount: byteCount, remarks: [])
        try working(on: place, filesystem, group, log) { work throws(ResizeError) in
            try work.checkIsCaptured(volumes.map(\.volume))
            // From 2.03.17 on, lvreduce checks the filesystem, which its own tool has just shrunk, and refuses some.
            let help = try work.job.run(["lvm", "lvreduce", "--help"])
            let ignoring = help.text.contains("--fs ") ? ["--fs", "ignore"] : []
            try work.active { () throws(ResizeError) in
                for (volume, byteCount) in volumes where byteCount < volume.byteCount {
                    try goOn(cancellation)
                    let made = try FilesystemResizer.shrink(
                        volume.filesystem, to: byteCount, on: work.place(of: ownName(volume)), log: log)
                    let extents = byteCount / group.extentByteCount
                    try work.change("lvreduce", ["-y", "-f"] + ignoring + ["-l", "\(extents)", volume.name])
                    log("\(volume.name) has shrunk to \(ByteText.rounded(made.byteCount))")
                    outcome.remarks += made.remarks.map { "\(volume.name): \($0)" }
                }
                try goOn(cancellation)
                try moveExtents(work, behind: group.extentCount(in: byteCount))
                try goOn(cancellation)
                try work.change("pvresize", ["-y", "--setphysicalvolumesize", "\(byteCount)b", work.job.node])
            }
            try checkResult(work, volumes)
        }
        return outcome
    }

    /// Fails if a resized physical volume does not pass LVM's checks.
    package static func check(
        _ filesystem: FilesystemInfo, has byteCounts: [UInt64], on place: ResizePlace,
        log: @escaping (String) -> Void = { _ in }
    ) throws(ResizeError) {
        let (group, volumes) = try contents(filesystem, byteCounts)
        try working(on: place, filesystem, group, log) { work throws(ResizeError) in try checkResult(work, volumes) }
    }

    /// Moves the extents behind the new end into the free extents before it.
    private static func moveExtents(_ work: VolumeGroupWork, behind end: UInt64) throws(ResizeError) {
        let used = try work.endOfVolumes()
        guard used > end else { return }
        guard end > 0 else { throw ResizeError(.unsupported(reason: "no extent is left of \(work.group.name)")) }
        let node = work.job.node
        // "anywhere": onto the same disk, in as many pieces as necessary (pvmove(8)).
        try work.change(
            "pvmove", ["--alloc", "anywhere", "-i", "1", "\(node):\(end)-\(used - 1)", "\(node):0-\(end - 1)"])
        guard try work.endOfVolumes() <= end else {
            throw ResizeError(
                .resizeFailed(
                    tool: "pvmove", ending: "it reported success", lastWords: "extents are left behind the end"),
                state: work.job.inDoubt)
        }
    }

    /// Uses LVM's own checks and the lengths that it reports.
    private static func checkResult(
        _ work: VolumeGroupWork, _ volumes: [(volume: FilesystemInfo.InnerVolume, byteCount: UInt64)]
    ) throws(ResizeError) {
        do throws(ResizeError) {
            try work.checkIsWhole()
            let wanted = Dictionary(
                volumes.map { ($0.volume.name, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
            let (facts, found) = (try work.facts(), try work.lengths())
            let end = try work.endOfVolumes()
            guard found == wanted, end <= facts.extentCount else {
                throw ResizeError(
                    .unsupported(reason: "the logical volumes of \(work.group.name) have other lengths than planned"))
            }
        } catch {
            throw ResizeError(error.problem, state: work.job.inDoubt)
        }
    }

    /// Throws if a cancellation was requested: no further step begins.
    private static func goOn(_ cancellation: Cancellation) throws(ResizeError) {
        guard !cancellation.isRequested else {
            throw ResizeError(.unreachable(SystemCallError("go on with", "the volume group", .interrupted)))
        }
    }

    // MARK: what was captured

    private typealias Volumes = [(volume: FilesystemInfo.InnerVolume, byteCount: UInt64)]

    private static func contents(
        _ filesystem: FilesystemInfo, _ byteCounts: [UInt64]
    ) throws(ResizeError) -> (FilesystemInfo.VolumeGroup, Volumes) {
        if let obstacle = filesystem.resizeAbility.growObstacle { throw ResizeError(.unsupported(reason: obstacle)) }
        guard filesystem.kind == .lvm, let group = filesystem.volumeGroup, let volumes = filesystem.inner,
            volumes.count == byteCounts.count, ConfinedLVM.isName(group.name),
            volumes.allSatisfy({ $0.name == "\(group.name)/\(ownName($0))" && ConfinedLVM.isName(ownName($0)) }),
            byteCounts.allSatisfy({ $0 > 0 && group.extentByteCount > 0 && $0 % group.extentByteCount == 0 })
        else { throw ResizeError(.unsupported(reason: "the captured data of the volume group are not valid")) }
        return (group, Array(zip(volumes, byteCounts)).map { (volume: $0.0, byteCount: $0.1) })
    }

    /// The name without the group.
    private static func ownName(_ volume: FilesystemInfo.InnerVolume) -> String {
        String(volume.name.drop { $0 != "/" }.dropFirst())
    }

    private static func working(
        on place: ResizePlace, _ filesystem: FilesystemInfo, _ group: FilesystemInfo.VolumeGroup,
        _ log: @escaping (String) -> Void, _ body: (VolumeGroupWork) throws(ResizeError) -> Void
    ) throws(ResizeError) {
        try place.checkIsFree()
        if let twin = activeTwin(of: group) { throw ResizeError(.unsupported(reason: twin)) }
        try place.synchronise()
        try FilesystemResizer.withNode(of: place) { node throws(ResizeError) in
            let job = ResizeJob(
                node: node, filesystem: filesystem, package: "lvm2", checkCommand: "vgck \(group.name)", log: log)
            try body(VolumeGroupWork(job: job, group: group))
        }
        try place.synchronise()
    }
}
