// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import SystemAccess
import WindowsFiles

/// The partitions of a disk that the entries of one boot configuration store mean. Pure.
struct WindowsPlaces {
    private let survey: SystemBootSurvey
    /// The disks, by their identifiers, that stand for this one in the store.
    private let ownDisks: Set<BCDPartition.Disk>
    /// The partitions that were told by files, by the identifiers in the store: elements without a file of their own (the
    /// hibernation file's device) follow those that name the same partition.
    private var known: [BCDPartition: Set<Int>] = [:]

    init(_ elements: [WindowsFinding.Element], _ survey: SystemBootSurvey) {
        self.survey = survey
        var own: Set<BCDPartition.Disk> = []
        switch survey.tableKind {
        case .gpt: if let guid = survey.diskGUID { own.insert(.gpt(guid)) }
        case .mbr: if let signature = survey.diskSignature { own.insert(.mbr(signature: signature)) }
        default: break
        }
        // The boot manager is on the disk of its store, so its entry has the identifier that this disk had. Entries of
        // another disk must not be turned to this one, even if it holds files of the same names.
        let managers = elements.filter(Self.isManager).map(\.names.disk)
        let others = Set(elements.map(\.names.disk)).subtracting(own)
        if !managers.isEmpty {
            own.formUnion(managers)
        } else if others.count == 1 {
            own.formUnion(others)
        }
        ownDisks = own
        for element in elements {
            if let volume = placeByFile(of: element) { known[element.names, default: []].insert(volume.number) }
        }
    }

    private static func isManager(_ element: WindowsFinding.Element) -> Bool {
        element.objectType == BCDStore.ObjectType.bootManager && element.type == BCDStore.ElementType.device
    }

    /// The order in which elements are written. A power cut between two of them must leave enough to tell the rest: those
    /// that follow others come first, and the boot manager's, which tells the disk, last.
    static func rank(_ element: WindowsFinding.Element) -> Int {
        isManager(element) ? 2 : element.holders?.isEmpty == false ? 1 : 0
    }

    /// Whether an element names a partition of this disk, by its present or its former identifier.
    func isOfThisDisk(_ element: WindowsFinding.Element) -> Bool {
        if ownDisks.contains(element.names.disk) { return true }
        // No two partitions have one GUID; many have one start.
        guard case .gpt(let guid, _) = element.names else { return false }
        return survey.tableKind == .gpt && partitions.contains { $0.guid == guid }
    }

    /// The partition of this disk that an element must name; `nil` if that cannot be told.
    func place(of element: WindowsFinding.Element) -> BootVolume? {
        guard isOfThisDisk(element) else { return nil }
        if element.holders?.isEmpty == false { return placeByFile(of: element) }
        if let numbers = known[element.names], numbers.count == 1 { return numbers.first.flatMap(survey.volume) }
        return namedVolume(element.names)
    }

    /// The partition that holds the file of an element; of several, the named one. An MBR partition may have moved, and
    /// another one may start where it was: the file decides.
    private func placeByFile(of element: WindowsFinding.Element) -> BootVolume? {
        guard isOfThisDisk(element), let holders = element.holders, !holders.isEmpty else { return nil }
        if let named = namedVolume(element.names), holders.contains(named.number) { return named }
        guard holders.count == 1, let volume = survey.volume(holders[0]), identity(of: volume) != nil else {
            return nil
        }
        return volume
    }

    /// What Windows may know: contents of LUKS, RAID and LVM have the range of a partition, and are none.
    private var partitions: [BootVolume] { survey.volumes.filter(\.isPartition) }

    /// The partition with these identifiers; else one of which only the disk's identifier differs.
    private func namedVolume(_ names: BCDPartition) -> BootVolume? {
        partitions.first { identity(of: $0) == names } ?? partitions.first { isNear(identity(of: $0), names) }
    }

    /// The identity by which a store names a partition of this disk.
    func identity(of volume: BootVolume) -> BCDPartition? {
        guard volume.isPartition else { return nil }
        return switch survey.tableKind {
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
}
