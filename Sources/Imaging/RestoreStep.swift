// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// A step of a restore on its target. From the first step to the commit the target boots nothing.
package enum RestoreStep: Codable, Equatable, Sendable, CustomStringConvertible {
    /// Zeroes the parts that make the target look whole, and begins the journal.
    case clear
    /// Trims the target, and clears it again.
    case trim
    /// Reads the image to its end, and writes its data.
    case writeData
    /// Zeroes unwritten ranges at the boundaries of partitions and at the end of the disk, then flushes.
    case clearEdges
    /// Reads the data back from the medium, and compares it.
    case compareData
    /// Corrects the boot sectors of moved partitions.
    case moveBootSectors
    /// Keeps older lives of the same filesystems in unused blocks from coming back.
    case cureOlderLives
    /// Flushes, then records in the journal that all data is there.
    case noteData
    /// Copies the files of a FAT from the scratch into a new one, and checks it.
    case remake(partition: Int)
    /// Shrinks a filesystem to its place, and checks it.
    case shrink(partition: Int)
    /// Makes the EFI system partition of a disk that starts by UEFI from now on: a FAT without files.
    case makeESP(partition: Int)
    /// Grows a filesystem to fill its place, and checks it. `nil` stands for the bare disk.
    case grow(partition: Int?)
    /// Writes the held-back data, block 0 last; only after each changed filesystem has passed its check.
    case commit
    /// Reads back the commit's writes, and compares them.
    case compareEnds

    /// The step as a line for a person.
    package var description: String {
        switch self {
        case .clear: "clear the parts that make the target look whole, and begin the journal"
        case .trim: "trim the target"
        case .writeData: "write the data of the image"
        case .clearEdges: "zero unwritten ranges at boundaries"
        case .compareData: "read the data back and compare it"
        case .moveBootSectors: "set the places of moved partitions in their boot sectors"
        case .cureOlderLives: "renew logs, and clear unused ranges in which an older life of a filesystem may be left"
        case .noteData: "record in the journal that all data is there"
        case .remake(let partition): "recreate the FAT of partition \(partition), and check it"
        case .shrink(let partition): "shrink the filesystem of partition \(partition), and check it"
        case .makeESP(let partition): "make the FAT of the EFI system partition \(partition), and check it"
        case .grow(let partition):
            "grow the filesystem\(partition.map { " of partition \($0)" } ?? ""), and check it"
        case .commit: "write the held-back data, block 0 last"
        case .compareEnds: "read back the commit's writes, and compare them"
        }
    }
}

extension RestorePlan {
    /// The steps of a restore of an image with this header, in order.
    /// - Parameter isResumed: whether it resumes an interrupted restore, whose data must not be trimmed.
    package func steps(
        _ header: ImageHeader, _ options: RestoreExecutor.Options, isResumed: Bool = false
    ) -> [RestoreStep] {
        var steps: [RestoreStep] = [.clear]
        if options.discard, !isResumed, only == nil, !options.delta { steps.append(.trim) }
        steps += [.writeData, .clearEdges]
        if options.verify { steps.append(.compareData) }
        if movesBootSectors(from: header.manifest.geometry) { steps.append(.moveBootSectors) }
        if !olderLifeSteps(header).isEmpty { steps.append(.cureOlderLives) }
        steps.append(.noteData)
        steps += remakes.map { RestoreStep.remake(partition: $0.number) }
        steps += shrinks.map { RestoreStep.shrink(partition: $0.number) }
        if let conversion, conversion.goal == .uefi, let added = conversion.added {
            steps.append(.makeESP(partition: added.number))
        }
        steps += growths.filter { !$0.isLate }.map { RestoreStep.grow(partition: $0.number) }
        steps.append(.commit)
        if options.verify { steps.append(.compareEnds) }
        steps += growths.filter(\.isLate).map { RestoreStep.grow(partition: $0.number) }
        return steps
    }

    /// Whether a partition starts at another sector number than on the captured disk.
    private func movesBootSectors(from captured: DiskGeometry) -> Bool {
        (placements ?? []).contains { $0.isMoved || captured.logicalSectorSize != geometry.logicalSectorSize }
    }

    /// The steps against older lives of the restored volumes.
    func olderLifeSteps(_ header: ImageHeader) -> [OlderLifeStep] {
        OlderLifeStep.steps(header) { destinations[$0] != .skipped }
    }
}
