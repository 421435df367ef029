// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel

/// One thing that a restore does to its target. From the first step to the commit the target boots nothing.
package enum RestoreStep: Codable, Equatable, Sendable, CustomStringConvertible {
    /// What makes the target look whole becomes zeros, and the journal begins.
    case clear
    /// The target is trimmed, and cleared again.
    case trim
    /// The image is read to its end, and its data written.
    case writeData
    /// What stays unwritten at the boundaries of partitions and at the end of the disk becomes zeros; then a flush.
    case clearEdges
    /// The data is read back from the medium.
    case compareData
    /// Boot sectors follow partitions that moved.
    case moveBootSectors
    /// What older lives of the same filesystems left in unused blocks cannot come back.
    case cureOlderLives
    /// A flush; then the journal says that all data is there.
    case noteData
    /// The files of a FAT go from the scratch into a new one, which is checked.
    case remake(partition: Int)
    /// A filesystem is made to end with its place, and checked.
    case shrink(partition: Int)
    /// A filesystem is made to fill its place, and checked. `nil` stands for the bare disk.
    case grow(partition: Int?)
    /// What was held back is written, block 0 last: only where each changed filesystem has passed its check.
    case commit
    /// What the commit wrote is read back.
    case compareEnds

    /// A line for a person.
    package var description: String {
        switch self {
        case .clear: "clear what makes the target look whole, and begin the journal"
        case .trim: "trim the target"
        case .writeData: "write the data of the image"
        case .clearEdges: "zero what stays unwritten at boundaries"
        case .compareData: "read the data back and compare it"
        case .moveBootSectors: "set the places of moved partitions in their boot sectors"
        case .cureOlderLives: "renew logs, and clear unused ranges in which an older life of a filesystem may be left"
        case .noteData: "note in the journal that all data is there"
        case .remake(let partition): "make the FAT of partition \(partition) again, and check it"
        case .shrink(let partition): "shrink the filesystem of partition \(partition), and check it"
        case .grow(let partition):
            "grow the filesystem\(partition.map { " of partition \($0)" } ?? ""), and check it"
        case .commit: "write what was held back, block 0 last"
        case .compareEnds: "read back what the commit wrote, and compare it"
        }
    }
}

extension RestorePlan {
    /// What a restore of an image with this header does, in order.
    /// - Parameter isResumed: whether it goes on where an interrupted one stopped, whose data must not be trimmed.
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
        steps += growths.filter { !$0.isLate }.map { RestoreStep.grow(partition: $0.number) }
        steps.append(.commit)
        if options.verify { steps.append(.compareEnds) }
        steps += growths.filter(\.isLate).map { RestoreStep.grow(partition: $0.number) }
        return steps
    }

    /// Whether a partition starts at another sector than on the captured disk.
    private func movesBootSectors(from captured: DiskGeometry) -> Bool {
        (placements ?? []).contains { $0.isMoved || captured.logicalSectorSize != geometry.logicalSectorSize }
    }

    /// What is to be done about older lives of what is restored.
    func olderLifeSteps(_ header: ImageHeader) -> [OlderLifeStep] {
        OlderLifeStep.steps(header) { destinations[$0] != .skipped }
    }
}
