// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess
import WindowsFiles

/// Plans the changes for Windows. Pure.
struct WindowsPlanner {
    let target: BootTarget
    let finding: WindowsFinding
    var plan = LoaderPlan()

    var survey: SystemBootSurvey { target.survey }

    init(_ target: BootTarget, _ finding: WindowsFinding) {
        self.target = target
        self.finding = finding
    }

    // MARK: The boot configuration stores

    mutating func planStores() {
        for store in finding.stores { planStore(store) }
        if survey.tableKind == .mbr, !finding.systems.isEmpty, finding.stores.contains(where: { !$0.isForUEFI }) {
            plan.firmware.insert(.bios)
        }
    }

    private mutating func planStore(_ store: WindowsFinding.Store) {
        let firmware: Firmware = store.isForUEFI ? .uefi : .bios
        let name = "\(store.path) on partition \(store.partition)"
        if let problem = store.problem {
            plan.fail(
                .windowsStoreUnread, "\(name) was not checked", at: Self.evidence(store),
                BootObstacle(
                    "\(problem). If Windows does not start, run `bcdboot C:\\Windows` in its recovery environment"),
                matters: target.matters(firmware))
            return
        }
        var changes: [(element: WindowsFinding.Element, volume: BootVolume)] = []
        var lost: [WindowsFinding.Element] = []
        let places = WindowsPlaces(store.elements, survey)
        for element in store.elements {
            if let volume = places.place(of: element) {
                if places.identity(of: volume) != element.names { changes.append((element, volume)) }
            } else {
                lost.append(element)
            }
        }
        if !changes.isEmpty { addStep(store, changes, places) }
        report(lost, of: store, name, places, matters: target.matters(firmware))
        if changes.isEmpty, lost.isEmpty {
            plan.alreadyRight.append("\(name) names this disk's partitions")
        }
    }

    private mutating func addStep(
        _ store: WindowsFinding.Store, _ changes: [(element: WindowsFinding.Element, volume: BootVolume)],
        _ places: WindowsPlaces
    ) {
        var patches: [(rank: Int, change: BytePatches.Change)] = []
        var records: [WindowsStep.Element] = []
        for (element, volume) in changes {
            guard let partition = places.identity(of: volume),
                let bytes = try? BCDDevice.replacing(partition, in: element.data.flatMap(\.bytes))
            else { continue }
            var start = 0
            for piece in element.data {
                let new = Array(bytes[start..<start + piece.bytes.count])
                start += piece.bytes.count
                if new != piece.bytes {
                    patches.append(
                        (WindowsPlaces.rank(element), BytePatches.Change(at: piece.offset, from: piece.bytes, to: new)))
                }
            }
            let digits = String(element.type, radix: 16)
            records.append(
                WindowsStep.Element(
                    object: element.object, element: String(repeating: "0", count: 8 - digits.count) + digits,
                    from: element.names, to: partition, partition: volume.number))
        }
        guard !patches.isEmpty else { return }
        let name = "\(store.path) on partition \(store.partition)"
        plan.find(
            .windowsStoreOutdated, "\(records.count) entries of \(name) name other partitions than this disk's",
            severity: target.matters(store.isForUEFI ? .uefi : .bios) ? nil : .note, at: Self.evidence(store),
            fixedBy: [
                BootRepairStep(
                    WindowsStep.pointStore(path: store.path, partition: store.partition, elements: records),
                    .patchBytes(
                        BytePatches(
                            (0..<3).flatMap { rank in patches.filter { $0.rank == rank }.map(\.change) },
                            unchanged: store.stamp,
                            done: "pointed \(records.count) entries of \(name) to this disk's partitions",
                            failure: "the entries of \(name) do not all name this disk's partitions")),
                    by: WindowsBootManager().name)
            ])
    }

    private static func evidence(_ store: WindowsFinding.Store) -> Finding.Evidence {
        .init(partition: store.partition, file: store.path)
    }

    private mutating func report(
        _ lost: [WindowsFinding.Element], of store: WindowsFinding.Store, _ name: String, _ places: WindowsPlaces,
        matters: Bool
    ) {
        for element in lost {
            let isNeeded =
                matters
                && (element.objectType == BCDStore.ObjectType.bootManager || element.object == store.defaultObject)
            let entry = "an entry of \(name), {\(element.object)}, names \(element.names)"
            let holders = element.holders ?? []
            let file = element.file ?? "its files"
            let advice = "it is not changed: attach the disk that it is on, or correct the entry in Windows"
            if places.isOfThisDisk(element) {
                let reason =
                    holders.count > 1
                    ? "several partitions hold \(file)"
                    : "no partition of this disk \(element.file.map { "holds \($0)" } ?? "is that one")"
                plan.fail(
                    .windowsEntryLost, "\(entry), and \(reason)", at: Self.evidence(store), BootObstacle(advice),
                    matters: isNeeded)
            } else if isNeeded, !holders.isEmpty {
                plan.fail(
                    .windowsEntryLost,
                    "\(entry), which is not this disk, although partition \(holders[0]) holds \(file)",
                    at: Self.evidence(store), BootObstacle(advice), matters: true)
            } else {
                plan.find(
                    .windowsEntryLost, "\(entry), which is not this disk", severity: isNeeded ? .mayStop : .note,
                    at: Self.evidence(store), unfixed: advice)
            }
        }
    }

    // MARK: The loader

    /// The fallback loader and the firmware's entry are planned for all loaders alike.
    mutating func planLoader() {
        let path = "\\EFI\\\(WindowsBootManager.folder)\\\(WindowsBootManager.file)"
        guard let esp = survey.esp, esp.problem == nil,
            esp.loaders.contains(where: { $0.path.lowercased() == path.lowercased() })
        else { return }
        guard finding.stores.contains(where: { $0.partition == esp.partition && $0.isForUEFI }) else {
            plan.fail(
                .windowsStoreMissing,
                "the EFI system partition holds the Windows Boot Manager, but no boot configuration store",
                at: .init(partition: esp.partition),
                BootObstacle("make it in Windows' recovery environment (`bcdboot C:\\Windows`)"),
                // A folder that a removed Windows left does not matter to the system that is there.
                matters: target.isAtHand(.uefi) && (survey.system == nil || !finding.systems.isEmpty))
            return
        }
        plan.firmware.insert(.uefi)
        plan.start = PlannedLoader(
            folder: WindowsBootManager.folder, name: WindowsBootManager.file, isNew: false,
            label: WindowsBootManager.label)
    }
}
