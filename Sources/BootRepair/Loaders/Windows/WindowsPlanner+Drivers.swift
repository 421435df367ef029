// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess
import WindowsFiles

extension WindowsPlanner {
    mutating func planDrivers() {
        let ways = target.ways.map { $0.compactMap(\.modalias) }
        let named = partitionsOfLoaders
        reportUnread(named, machineIsKnown: !ways.isEmpty)
        let encrypted = survey.volumes.filter { $0.kindName == "BitLocker" && named.contains($0.number) }
        guard !finding.systems.isEmpty || !encrypted.isEmpty else { return }
        guard !ways.isEmpty else {
            plan.alreadyRight.append(
                "the storage drivers of Windows are left alone: the machine that will start it is not known")
            return
        }
        let needs = ways.flatMap(StorageDrivers.needs).reduce(into: [StorageDrivers.Need]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        guard !needs.isEmpty else {
            plan.find(
                .windowsControllerUnknown,
                "the disk controller of this machine is none that Windows is known to start from",
                unfixed: "the storage drivers of Windows were not checked")
            return
        }
        for system in finding.systems { planDrivers(of: system, needs) }
        for volume in encrypted {
            plan.find(
                .windowsUnread, "the storage drivers of Windows on partition \(volume.number) were not checked",
                severity: .mayStop, at: .init(partition: volume.number),
                unfixed:
                    "it is encrypted by BitLocker. If Windows does not start here, attach the disk to a controller "
                    + "like that of its old machine, or decrypt it there and capture it again")
        }
    }

    /// The partitions that the stores start a Windows from.
    private var partitionsOfLoaders: Set<Int> {
        var found: Set<Int> = []
        for store in finding.stores {
            let places = WindowsPlaces(store.elements, survey)
            for element in store.elements where element.objectType == BCDStore.ObjectType.loader {
                if let volume = places.place(of: element) { found.insert(volume.number) }
            }
        }
        return found
    }

    private mutating func reportUnread(_ named: Set<Int>, machineIsKnown: Bool) {
        for volume in finding.unread {
            let evidence = Finding.Evidence(partition: volume.partition)
            guard named.contains(volume.partition) else {
                plan.find(
                    .windowsUnread,
                    "partition \(volume.partition) could not be read: whether it holds a Windows is not known",
                    severity: finding.stores.isEmpty ? .note : .mayStop, at: evidence, unfixed: volume.reason)
                continue
            }
            let sentence = "Windows on partition \(volume.partition) could not be read"
            let advice = "\(volume.reason). Run `chkdsk C: /f` in its recovery environment, then boot repair again"
            if machineIsKnown {
                plan.fail(.windowsUnread, sentence, at: evidence, BootObstacle(advice), matters: true)
            } else {
                plan.find(.windowsUnread, sentence, severity: .mayStop, at: evidence, unfixed: advice)
            }
        }
    }

    private mutating func planDrivers(of system: WindowsFinding.System, _ needs: [StorageDrivers.Need]) {
        let name = "Windows on partition \(system.partition)"
        if let problem = system.problem {
            plan.fail(
                .windowsUnread, "the storage drivers of \(name) were not checked", at: Self.evidence(system),
                BootObstacle(
                    "\(problem). Start Windows once on its old machine, shut it down while pressing Shift, and capture "
                        + "it again"), matters: true)
            return
        }
        var drivers: [WindowsFinding.Driver] = []
        var right: [String] = []
        var isStopped = false
        for need in needs {
            let services = need.services.map { $0.lowercased() }
            let present = system.drivers.filter { services.contains($0.name.lowercased()) }
            let usable = present.filter { $0.hasFile && ($0.startsAtBoot || $0.words?.isEmpty == false) }
            let sets = Set(system.drivers.map(\.controlSet))
            guard !usable.isEmpty, sets.allSatisfy({ set in usable.contains { $0.controlSet == set } }) else {
                plan.fail(
                    .windowsDriverMissing, Self.missing(need, name, present), at: Self.evidence(system),
                    BootObstacle(
                        "install the driver in Windows on the old machine and capture it again, or attach the disk to "
                            + "another controller"),
                    // Only one of the machine's controllers will have the disk.
                    matters: target.controllerIsKnown)
                continue
            }
            drivers += usable.filter { !$0.startsAtBoot }
            // Which of several is the right one for the controller's model is not known here.
            let startsOne = sets.allSatisfy { set in usable.contains { $0.startsAtBoot && $0.controlSet == set } }
            if !startsOne { isStopped = true }
            right += usable.filter(\.startsAtBoot).map(\.name)
        }
        guard !drivers.isEmpty else {
            let names = right.reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
            if !names.isEmpty {
                plan.alreadyRight.append(
                    "\(name) starts its driver for this machine's disk controller (\(names.joined(separator: ", ")))")
            }
            return
        }
        addStep(
            system, drivers, needs, name, severity: isStopped && target.controllerIsKnown ? .stops : .mayStop)
    }

    private static func missing(
        _ need: StorageDrivers.Need, _ name: String, _ present: [WindowsFinding.Driver]
    ) -> String {
        let files = present.filter { !$0.hasFile }.map(\.path)
        let reason =
            files.isEmpty
            ? (present.isEmpty
                ? "it has no service \(need.services.joined(separator: ", "))" : "its service is damaged")
            : "there is no \(files[0])"
        return "\(name) cannot start from this machine's disk controller (\(need.controller)): \(reason)"
    }

    private static func evidence(_ system: WindowsFinding.System) -> Finding.Evidence {
        .init(partition: system.partition, file: "\(system.root)\\System32\\config\\SYSTEM")
    }

    private mutating func addStep(
        _ system: WindowsFinding.System, _ drivers: [WindowsFinding.Driver], _ needs: [StorageDrivers.Need],
        _ name: String, severity: Finding.Severity
    ) {
        var changes: [BytePatches.Change] = []
        for word in drivers.flatMap({ $0.words ?? [] }) {
            for piece in word.data where piece.bytes.contains(where: { $0 != 0 }) {
                changes.append(
                    BytePatches.Change(
                        at: piece.offset, from: piece.bytes, to: [UInt8](repeating: 0, count: piece.bytes.count)))
            }
        }
        let records = drivers.map { WindowsStep.Driver(service: $0.name, controlSet: $0.controlSet) }
        let services = drivers.map(\.name).reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
            .joined(separator: ", ")
        plan.find(
            .windowsDriverOff, "\(name) does not start \(services) with the system", severity: severity,
            at: Self.evidence(system),
            fixedBy: [
                BootRepairStep(
                    WindowsStep.startDrivers(
                        partition: system.partition, controller: needs.map(\.controller).joined(separator: ", "),
                        drivers: records),
                    .patchBytes(
                        BytePatches(
                            changes, unchanged: system.stamp,
                            done: "\(name) starts \(services) with the system",
                            failure: "\(name) does not start \(services) with the system")),
                    by: WindowsBootManager().name)
            ])
    }
}
