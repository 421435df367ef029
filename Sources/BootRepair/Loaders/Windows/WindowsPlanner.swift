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

    private var survey: SystemBootSurvey { target.survey }

    init(_ target: BootTarget, _ finding: WindowsFinding) {
        self.target = target
        self.finding = finding
    }

    // MARK: The boot configuration stores

    mutating func planStores() {
        for store in finding.stores { planStore(store) }
    }

    private mutating func planStore(_ store: WindowsFinding.Store) {
        let firmware: Firmware = store.isForUEFI ? .uefi : .bios
        let name = "\(store.path) on partition \(store.partition)"
        if let problem = store.problem {
            plan.fail(
                .windowsStoreUnread, "\(name) was not checked", at: Self.evidence(store), BootObstacle(problem),
                matters: target.isAtHand(firmware))
            return
        }
        var changes: [(element: WindowsFinding.Element, volume: BootVolume)] = []
        var lost: [WindowsFinding.Element] = []
        let known = knownPlaces(store.elements)
        for element in store.elements {
            if let volume = place(of: element, known) {
                if identity(of: volume) != element.names { changes.append((element, volume)) }
            } else {
                lost.append(element)
            }
        }
        if !changes.isEmpty { addStep(store, changes) }
        report(lost, of: store, name, matters: target.matters(firmware))
        if changes.isEmpty, lost.isEmpty {
            plan.alreadyRight.append("\(name) names this disk's partitions")
        }
    }

    /// The partitions that were told by files, by the identifiers in the store: elements without a file of their own (the
    /// hibernation file's device) follow those that name the same partition.
    private func knownPlaces(_ elements: [WindowsFinding.Element]) -> [BCDPartition: Set<Int>] {
        var known: [BCDPartition: Set<Int>] = [:]
        for element in elements {
            if let volume = placeByFile(of: element) { known[element.names, default: []].insert(volume.number) }
        }
        return known
    }

    /// The partition of this disk that an element must name; `nil` if that cannot be told.
    private func place(of element: WindowsFinding.Element, _ known: [BCDPartition: Set<Int>]) -> BootVolume? {
        if element.holders?.isEmpty == false { return placeByFile(of: element) }
        if let numbers = known[element.names], numbers.count == 1 { return numbers.first.flatMap(survey.volume) }
        return namedVolume(element.names)
    }

    /// The partition that holds the file of an element; of several, the named one. An MBR partition may have moved, and
    /// another one may start where it was: the file decides.
    private func placeByFile(of element: WindowsFinding.Element) -> BootVolume? {
        guard let holders = element.holders, !holders.isEmpty else { return nil }
        if let named = namedVolume(element.names), holders.contains(named.number) { return named }
        guard holders.count == 1, let volume = survey.volume(holders[0]), identity(of: volume) != nil else {
            return nil
        }
        return volume
    }

    /// The partition with these identifiers; else one of which only the disk's identifier differs.
    private func namedVolume(_ names: BCDPartition) -> BootVolume? {
        let candidates = survey.volumes.filter { $0.logicalVolume == nil }
        return candidates.first { identity(of: $0) == names } ?? candidates.first { isNear(identity(of: $0), names) }
    }

    /// The identity by which a store names a partition of this disk.
    private func identity(of volume: BootVolume) -> BCDPartition? {
        switch survey.tableKind {
        case .gpt: survey.diskGUID.map { .gpt(partition: volume.guid, disk: $0) }
        case .mbr: survey.diskSignature.map { .mbr(start: volume.range.lowerBound, signature: $0) }
        default: nil
        }
    }

    /// Whether only the disk's identifier differs.
    private func isNear(_ one: BCDPartition?, _ other: BCDPartition) -> Bool {
        switch (one, other) {
        case (.gpt(let guid, _)?, .gpt(let named, _)): guid == named
        case (.mbr(let start, _)?, .mbr(let named, _)): start == named
        default: false
        }
    }

    private mutating func addStep(
        _ store: WindowsFinding.Store, _ changes: [(element: WindowsFinding.Element, volume: BootVolume)]
    ) {
        var patches: [BytePatches.Change] = []
        var records: [WindowsStep.Element] = []
        for (element, volume) in changes {
            guard let partition = identity(of: volume),
                let bytes = try? BCDDevice.replacing(partition, in: element.data.flatMap(\.bytes))
            else { continue }
            var start = 0
            for piece in element.data {
                let new = Array(bytes[start..<start + piece.bytes.count])
                start += piece.bytes.count
                if new != piece.bytes {
                    patches.append(BytePatches.Change(at: piece.offset, from: piece.bytes, to: new))
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
                            patches, unchanged: store.stamp,
                            done: "pointed \(records.count) entries of \(name) to this disk's partitions",
                            failure: "the entries of \(name) do not all name this disk's partitions")),
                    by: WindowsBootManager().name)
            ])
    }

    private static func evidence(_ store: WindowsFinding.Store) -> Finding.Evidence {
        .init(partition: store.partition, file: store.path)
    }

    private mutating func report(
        _ lost: [WindowsFinding.Element], of store: WindowsFinding.Store, _ name: String, matters: Bool
    ) {
        for element in lost {
            let isNeeded =
                element.objectType == BCDStore.ObjectType.bootManager || element.object == store.defaultObject
            let reason =
                (element.holders?.count ?? 0) > 1
                ? "several partitions hold \(element.file ?? "its files")"
                : "no partition of this disk \(element.file.map { "holds \($0)" } ?? "is that one")"
            plan.fail(
                .windowsEntryLost, "an entry of \(name), {\(element.object)}, names \(element.names), and \(reason)",
                at: Self.evidence(store), BootObstacle("it is not changed"), matters: matters && isNeeded)
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
                BootObstacle("make it in Windows' recovery environment (`bcdboot`)"), matters: target.isAtHand(.uefi))
            return
        }
        plan.start = PlannedLoader(
            folder: WindowsBootManager.folder, name: WindowsBootManager.file, isNew: false,
            label: WindowsBootManager.label)
    }
}
