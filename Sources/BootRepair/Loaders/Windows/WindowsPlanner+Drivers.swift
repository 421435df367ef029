// SPDX-License-Identifier: GPL-3.0-or-later
import WindowsFiles

extension WindowsPlanner {
    /// The modaliases of the controller that will hold the disk; `nil` if that is not known: on a workstation, the disk
    /// may be for any machine.
    private var modaliases: [String]? {
        target.options.targetModaliases ?? (target.options.inRecoveryEnvironment ? finding.modaliases : nil)
    }

    mutating func planDrivers() {
        planEncrypted()
        guard !finding.systems.isEmpty else { return }
        guard let modaliases else {
            plan.alreadyRight.append(
                "the storage drivers of Windows are left alone: the machine that will start it is not known")
            return
        }
        let needs = StorageDrivers.needs(for: modaliases)
        guard !needs.isEmpty else {
            plan.warnings.append(
                "the storage drivers of Windows were not checked: the disk controller of this machine is none that "
                    + "Windows is known to start from")
            return
        }
        for system in finding.systems { planDrivers(of: system, needs) }
    }

    private mutating func planEncrypted() {
        for number in finding.encrypted {
            plan.warnings.append(
                "partition \(number) is encrypted by BitLocker: nothing in it was checked or changed. On another "
                    + "machine, Windows asks for the recovery key")
        }
    }

    private mutating func planDrivers(of system: WindowsFinding.System, _ needs: [StorageDrivers.Need]) {
        let name = "Windows on partition \(system.partition)"
        if let problem = system.problem {
            plan.fail("the storage drivers of \(name) were not checked: \(problem)", nil, matters: true)
            return
        }
        var drivers: [WindowsFinding.Driver] = []
        var right: [String] = []
        for need in needs {
            let services = need.services.map { $0.lowercased() }
            let present = system.drivers.filter { services.contains($0.name.lowercased()) }
            let usable = present.filter { $0.hasFile && ($0.startsAtBoot || $0.words?.isEmpty == false) }
            let sets = Set(system.drivers.map(\.controlSet))
            guard !usable.isEmpty, sets.allSatisfy({ set in usable.contains { $0.controlSet == set } }) else {
                plan.fail(
                    Self.missing(need, name, present), nil, matters: true)
                continue
            }
            drivers += usable.filter { !$0.startsAtBoot }
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
        addStep(system, drivers, needs, name)
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
        return "\(name) cannot start from this machine's disk controller (\(need.controller)): \(reason). Install the "
            + "driver in Windows on the old machine and capture it again, or attach the disk to another controller"
    }

    private mutating func addStep(
        _ system: WindowsFinding.System, _ drivers: [WindowsFinding.Driver], _ needs: [StorageDrivers.Need],
        _ name: String
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
        plan.steps.append(
            BootRepairStep(
                WindowsStep.startDrivers(
                    partition: system.partition, controller: needs.map(\.controller).joined(separator: ", "),
                    drivers: records),
                .patchBytes(
                    BytePatches(
                        changes, unchanged: system.stamp,
                        done: "\(name) starts \(services) with the system",
                        failure: "\(name) does not start \(services) with the system")),
                by: WindowsBootManager().name))
    }
}
