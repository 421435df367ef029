// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import LinuxSystem
import SystemPackage
import Testing

@testable import SystemAccess

/// T2: nodes of partitions that the kernel does not list by itself, on a loop device.
@Suite(
    .serialized,
    .enabled(if: SystemFacts.isRoot && Files.exists("/dev/loop-control"), "needs root and loop devices"))
struct PartitionNodeTests {
    static let mebibyte: UInt64 = 1 << 20

    private static func withDisk(_ body: (BlockDevice, String) throws -> Void) throws {
        let folder = try Files.makeTemporaryFolder("reforge-node-test")
        let image = folder.appending("disk.raw")
        defer {
            try? Files.remove(image)
            try? Files.removeFolder(folder)
        }
        do {
            let file = try OwnedDescriptor.open(image, .readWrite, options: [.create], permissions: [.ownerReadWrite])
            try Files.resize(file.raw, image.string, to: 64 * mebibyte)
        }
        let loop = try LoopDevice(over: image, range: 0..<64 * mebibyte)
        let disk = try BlockDevice(opening: loop.path)
        let name = try #require(VolumeNode.kernelName(of: disk))
        // Of an earlier test run that was killed.
        for node in DiskDirectory().partitionNodes(of: name) { try disk.deletePartitionNode(node.number) }
        try withExtendedLifetime(disk) { try body(disk, name) }
    }

    private static func volume(_ number: Int, _ range: ByteRange) -> BootVolume {
        BootVolume(number: number, range: range, typeGUID: .zero, guid: .zero, kind: .ext4, kindName: "ext4")
    }

    /// A node that an earlier use of the loop device left behind has the place: the kernel refuses another one there.
    @Test func aStaleNodeMakesRoom() throws {
        try Self.withDisk { disk, name in
            try disk.addPartitionNode(1, 2 * Self.mebibyte..<60 * Self.mebibyte)
            do {
                let node = try VolumeNode.make(
                    Self.volume(2, 2 * Self.mebibyte..<60 * Self.mebibyte), of: disk, readOnly: true)
                #expect(node.isPartition && node.path.string == "/dev/\(name)p2")
            }
            #expect(DiskDirectory().partitionNodes(of: name).isEmpty)
        }
    }

    /// One that is in use stays, and the volume is shown by a loop device.
    @Test func aNodeInUseStays() throws {
        try Self.withDisk { disk, name in
            try disk.addPartitionNode(1, 2 * Self.mebibyte..<60 * Self.mebibyte)
            do {
                let user = try OwnedDescriptor.open(FilePath("/dev/\(name)p1"), .readOnly)
                let node = try VolumeNode.make(
                    Self.volume(2, 2 * Self.mebibyte..<60 * Self.mebibyte), of: disk, readOnly: true)
                #expect(!node.isPartition)
                #expect(DiskDirectory().partitionNodes(of: name).map(\.number) == [1])
                withExtendedLifetime(user) {}
            }
            try disk.deletePartitionNode(1)
        }
    }

    /// A child just forked by another thread holds the node a moment longer.
    @Test func aNodeIsRemovedOnceItIsFree() throws {
        try Self.withDisk { disk, name in
            var node: VolumeNode? = try VolumeNode.make(
                Self.volume(3, Self.mebibyte..<2 * Self.mebibyte), of: disk, readOnly: true)
            let path = try #require(node?.path)
            let isOpen = Monitor(false)
            let thread = try WorkerThread {
                guard let user = try? OwnedDescriptor.open(path, .readOnly) else { return }
                isOpen.update { $0 = true }
                SystemFacts.sleep(seconds: 0.4)
                withExtendedLifetime(user) {}
            }
            while !isOpen.update({ $0 }) { SystemFacts.sleep(seconds: 0.01) }
            node = nil
            thread.join()
            #expect(DiskDirectory().partitionNodes(of: name).isEmpty)
        }
    }
}
