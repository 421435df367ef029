// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import ImageModel
import Testing

@testable import Imaging

/// Programs read the JSON of a plan, and a journal has its digest: both must stay unchanged, so that a restore started
/// by an older version can resume.
@Suite struct PlanJSONTests {
    private let mebibyte: UInt64 = 1 << 20

    private func json(_ value: some Encodable) throws -> String {
        String(decoding: try JSONText.encode(value), as: UTF8.self)
    }

    /// A plan with regions on the disk, skipped regions, and two spills.
    private func plan() -> RestorePlan {
        let filesystem = FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures)
        var plan = RestorePlan(
            imageUUID: .zero, target: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: 16 * mebibyte),
            request: LayoutRequest(policy: .keep),
            items: [
                .init(
                    number: 1, name: "one", type: "data", filesystem: "ext4", label: nil, from: 0..<4 * mebibyte,
                    to: mebibyte..<3 * mebibyte, usedByteCount: 9, actions: [.restore, .move, .shrink, .clearUnused],
                    volumes: nil)
            ], destinations: [.disk(offset: 512), .skipped], placements: nil, tableIsUnchanged: false, growths: [],
            shrinks: [
                .init(
                    number: 1, range: mebibyte..<3 * mebibyte, fromByteCount: 4 * mebibyte, scratchByteCount: 5,
                    filesystem: filesystem)
            ],
            remakes: [
                .init(
                    number: 2, range: 3 * mebibyte..<4 * mebibyte, fromByteCount: mebibyte, scratchByteCount: 7,
                    filesystem: filesystem)
            ], warnings: [.leftOut(partition: 3)])
        plan.destinations += plan.spills.map { RestorePlan.Destination.spill($0) }
        return plan
    }

    @Test func theJSONOfAPlanStaysAsItWas() throws {
        let plan = plan()
        let item =
            #"{"action":"restore, move, shrink, clear what is unused","filesystem":"ext4","from":[0,4194304],"name":"one","#
            + #""number":1,"to":[1048576,3145728],"type":"data","usedByteCount":9}"#
        let parts = try [
            "\"geometry\":\(json(plan.geometry))",
            "\"growths\":[]",
            "\"imageUUID\":\"\(plan.imageUUID)\"",
            "\"items\":[\(item)]",
            "\"regionTargets\":[512,null,2305843009213693952,2305843009217888256]",
            "\"remakes\":\(json(plan.remakes))",
            "\"request\":\(json(plan.request))",
            "\"shrinks\":\(json(plan.shrinks))",
            "\"tableIsUnchanged\":false",
            "\"target\":\(json(plan.target))",
            "\"warnings\":[\"none\"]",
        ]
        #expect(try json(RestorePlan.JSON(plan, warnings: ["none"])) == "{\(parts.joined(separator: ","))}")
    }

    /// Changed or added texts do not change the digest of a plan.
    @Test func theDigestHasNoWarnings() throws {
        let plan = plan()
        var other = plan
        other.warnings = []
        #expect(try other.digest() == plan.digest())
        other.target.path = ""
        #expect(try plan.digest() == ContentHash(of: JSONText.encode(RestorePlan.JSON(other, warnings: []))))
    }

    @Test func everyActionHasItsWords() {
        var item = plan().items[0]
        item.actions = [.restoreInto(partition: 3), .grow, .renewLog]
        #expect(item.action == "restore into partition 3, grow, new log")
        item.actions = [.restore, .remake]
        #expect(item.action == "restore, make anew")
        item.actions = [.moveUnused]
        #expect(item.action == "move (nothing in use)")
        item.actions = [.leaveUnused]
        #expect(item.action == "nothing in use")
    }
}
