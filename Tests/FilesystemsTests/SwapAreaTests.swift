// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Filesystems

@Suite(.enabled(if: Tool.have("mkswap"), "needs mkswap"))
struct SwapAreaTests {
    @Test(arguments: [4096, 16384, 65536]) func onlyTheHeaderCounts(pageSize: Int) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 8 << 20)
        try Tool.run(["mkswap", "-p", "\(pageSize)", "-L", "swappy", image.string])
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .swap && info.mapSource == .headerOnly && info.wholeReason == nil)
        #expect(info.blockSize == pageSize && info.byteCount == 8 << 20 && info.remarks == [])
        #expect(map.ranges == [0..<UInt64(pageSize)])
        #expect(try bench.opinion("image") == .found(kindName: "swap", uuid: info.uuid, label: "swappy"))
        #expect(info.label == "swappy" && info.uuid != nil)
    }

    @Test(arguments: ["S1SUSPEND\0", "S2SUSPEND\0", "ULSUSPEND\0", "LINHIB0001"])
    func aHibernationImageIsReportedAndMasked(signature: String) throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 20)
        try Tool.run(["mkswap", "-p", "4096", image.string])
        #expect(!SwapArea.isHibernated(try bench.survey("image").0))
        let plain = try BlockDevice(opening: image).readBytes(at: 0, count: 4096)
        let file = try FileDescriptor.open(image, .readWrite)
        _ = try file.writeAll(toAbsoluteOffset: 4086, Array(signature.utf8))
        try file.close()
        let (info, map) = try bench.survey("image")
        #expect(info.kind == .swap && info.kindName == "swap")
        #expect(info.remarks == ["holds a hibernation image; it is put back as plain swap"])
        #expect(SwapArea.isHibernated(info))
        var group = FilesystemInfo(kind: .lvm, kindName: "LVM2_member", mapSource: .whole)
        group.inner = [.init(name: "vg/swap", byteCount: 1 << 20, filesystem: info)]
        #expect(SwapArea.isHibernated(group))
        #expect(map.ranges == [0..<4096])
        let page = try BlockDevice(opening: image).readBytes(at: 0, count: 4096)
        #expect(page != plain)
        #expect(SwapArea.plainHeader(page) == plain)
        #expect(SwapArea.plainHeader(plain) == plain)
        #expect(SwapArea.plainHeader([]) == [])
    }

    /// mkswap could not recreate it: detected before any plan.
    @Test func whatMkswapCannotMakeAgainKeepsItsSize() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 20)
        try Tool.run(["mkswap", "-p", "4096", "-L", "fifteen letters", image.string])
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 1 << 20)
        func ability(_ change: (inout [UInt8]) -> Void) throws -> ResizeAbility {
            var changed = bytes
            change(&changed)
            return try VolumeIdentifier.survey(MemoryDisk(changed)).0.resizeAbility
        }
        #expect(try ability { _ in }.canShrink)
        let badPages = try ability { $0[1032] = 1 }
        #expect(badPages.growObstacle == "a swap area with a list of bad pages keeps its size")
        for last in [UInt8(ascii: "x"), 0xFF] {
            let label = try ability { $0[1052 + (last == 0xFF ? 3 : 15)] = last }
            #expect(label.shrinkObstacle == "mkswap cannot write the label of this swap area again")
        }
    }

    @Test func whatIsCutOffOrGrownIsTakenSafely() throws {
        let bench = try Workbench()
        let image = try bench.sparseFile("image", byteCount: 1 << 20)
        try Tool.run(["mkswap", "-p", "4096", image.string])
        let bytes = try BlockDevice(opening: image).readBytes(at: 0, count: 1 << 20)
        let (cut, cutMap) = try VolumeIdentifier.survey(MemoryDisk(Array(bytes.dropLast(4096))))
        #expect(cut.wholeReason == "it is larger than its partition" && cutMap == .whole(byteCount: (1 << 20) - 4096))
        let (_, grown) = try VolumeIdentifier.survey(MemoryDisk(bytes + [1, 2, 3]))
        let end: UInt64 = 1 << 20
        #expect(grown.ranges == [0..<4096, end..<end + 3])
    }
}
