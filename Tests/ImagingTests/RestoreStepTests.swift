// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import Testing

@testable import Imaging

/// The steps of a restore, as values.
@Suite struct RestoreStepTests {
    private func growth(_ number: Int?, isLate: Bool) -> RestorePlan.Growth {
        RestorePlan.Growth(
            number: number, isLate: isLate, range: 0..<1 << 20,
            filesystem: FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures))
    }

    @Test func stepsFollowThePlanAndItsOptions() throws {
        let made = try MadeUpDisk(seed: 11)
        var plan = try made.plan(targetByteCount: 16 << 20)
        let plain = plan.steps(made.header, .init())
        #expect(plain == [.clear, .writeData, .clearEdges, .noteData, .commit])
        let careful = plan.steps(made.header, .init(verify: true, discard: true))
        #expect(
            careful == [
                .clear, .trim, .writeData, .clearEdges, .compareData, .noteData, .commit, .compareEnds,
            ])
        // Data of an interrupted restore is not discarded.
        #expect(!plan.steps(made.header, .init(discard: true), isResumed: true).contains(.trim))
        plan.growths = [growth(nil, isLate: true), growth(1, isLate: false)]
        let growing = plan.steps(made.header, .init(verify: true))
        #expect(Array(growing.suffix(4)) == [.grow(partition: 1), .commit, .compareEnds, .grow(partition: nil)])
        #expect(try JSONText.decode([RestoreStep].self, try JSONText.encode(growing)) == growing)
        plan.placements?[0].to = (2 << 20)..<(5 << 20)
        #expect(plan.steps(made.header, .init()).contains(.moveBootSectors))
    }
}
