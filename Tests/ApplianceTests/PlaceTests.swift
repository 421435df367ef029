// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Appliance

/// T0: paths in an image, and the medium.
struct PlaceTests {
    @Test func pathsAreParsed() {
        #expect(FilePlace("3:/x") == FilePlace(.partition(3), path: Array("/x".utf8)))
        #expect(FilePlace("0:") == FilePlace(.partition(0), path: Array("/".utf8)))
        #expect(FilePlace("vg-0/ro.ot:/a:b") == FilePlace(.logicalVolume("vg-0/ro.ot"), path: Array("/a:b".utf8)))
        #expect(FilePlace("/etc/a:b") == FilePlace(.installed, path: Array("/etc/a:b".utf8)))
    }

    @Test(arguments: [
        "", "x", "3", "3:x", ":/x", "vg:/x", "vg/lv/x:/y", "-a/b:/x", "../x:/y", "99999999999:/", "3 :/x",
    ])
    func othersAreRefused(text: String) { #expect(FilePlace(text) == nil) }

    @Test func lastNamesAreNames() {
        #expect(FilePlace("3:/a/b/")?.lastName == Array("b".utf8))
        #expect(FilePlace("3:/a/.")?.lastName == Array("a".utf8))
        #expect(FilePlace("3:/")?.lastName == nil && FilePlace("3:/a/..")?.lastName == nil)
    }

    @Test func theDeepestMountPointCounts() throws {
        let entries = [
            FstabEntry(line: 0, device: "UUID=1", mountPoint: "/", type: "ext4"),
            FstabEntry(line: 1, device: "UUID=2", mountPoint: "/home", type: "ext4", resolution: .here(partition: 2)),
            FstabEntry(
                line: 2, device: "UUID=3", mountPoint: "/home/anna", type: "xfs", resolution: .here(partition: 3)),
            FstabEntry(line: 3, device: "UUID=4", mountPoint: "none", type: "swap"),
        ]
        func match(_ path: String) throws -> (Int?, String)? {
            let place = try #require(FilePlace(path))
            return PlaceResolver.match(entries, place).map { ($0.0.partition, String(decoding: $0.1, as: UTF8.self)) }
        }
        #expect(try match("/etc/fstab") == nil)
        #expect(try match("/homes") == nil)
        let home = try #require(try match("/home/bert/x"))
        #expect(home.0 == 2 && home.1 == "/bert/x")
        let anna = try #require(try match("//home/./anna"))
        #expect(anna.0 == 3 && anna.1 == "/")
    }

    @Test func theSystemIsFoundAndOnlyAMissingOneIsCalledMissing() throws {
        let scratch = try ScratchFolder()
        let volumes = ["boot", "root"].map { scratch.path.appending($0) }
        for volume in volumes { try Files.makeFolders(volume.appending("etc")) }
        try Files.write(Array("LABEL=ROOT / ext4 defaults 0 1\n".utf8), to: volumes[1].appending("etc/fstab"))
        let session = try ApplianceSession(folders: volumes, cancellation: Cancellation())
        let resolver = try PlaceResolver(session)
        #expect(try resolver.resolve(try #require(FilePlace("/etc/x"))).mounted.volume.partition == 2)
        // It could lead from one volume to another.
        #expect(throws: ApplianceError.self) { try resolver.resolve(try #require(FilePlace("/home/../etc/x"))) }

        let cancellation = Cancellation()
        let interrupted = try PlaceResolver(ApplianceSession(folders: volumes, cancellation: cancellation))
        cancellation.request(2)
        do {
            _ = try interrupted.resolve(try #require(FilePlace("/etc/x")))
            Issue.record("an interrupted search ended well")
        } catch let error as ApplianceError {
            guard case .cancelled = error else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test func theMediumIsFoundByItsFolder() throws {
        let scratch = try ScratchFolder()
        #expect(throws: ApplianceError.self) { try ApplianceMedia.find(scratch.path.string) }
        try Files.write([1], to: scratch.path.appending("vmlinuz"))
        #expect(throws: ApplianceError.self) { try ApplianceMedia.find(scratch.path.string) }
        try Files.write([1], to: scratch.path.appending("initramfs.img"))
        #expect(try ApplianceMedia.find(scratch.path.string).kernel == scratch.path.appending("vmlinuz"))
    }

    @Test func theReasonOfAPanicIsSaid() {
        let panic = "[ 7.3] Kernel panic - not syncing: EXT4-fs (device vda): panic forced after error"
        #expect(ApplianceSession.lastWords(["a", panic, "[ 7.3]  </TASK>", "x", "y", "z"]) == panic)
        #expect(ApplianceSession.lastWords(["a", "b", "c", "d"]) == "b / c / d")
        #expect(ApplianceSession.lastWords([]).isEmpty)
    }

    @Test func theMachineHasNothingButItsDisks() {
        let machine = ApplianceMachine(
            media: ApplianceMedia(kernel: "/m/vmlinuz", initramfs: "/m/initramfs.img"), accelerator: .tcg,
            memoryMiB: 768, processorCount: 1,
            disks: [.init(socket: "/run/a,b\"c", logicalSectorSize: 4096)], channel: FileDescriptor(rawValue: 9))
        let arguments = machine.arguments
        #expect(arguments.contains("-nodefaults") && !arguments.contains { $0.contains("netdev") })
        #expect(arguments.contains { $0.contains("\"read-only\":true") && $0.contains("a,b\\\"c") })
        #expect(arguments.contains { $0.contains("logical_block_size=4096") })
        #expect(!arguments.contains { $0.contains("werror") })
        #expect(ApplianceAgent.isWanted(commandLine: "quiet \(ApplianceMachine.kernelWord)\n"))
        #expect(!ApplianceAgent.isWanted(commandLine: "quiet reforge.agents"))
    }

    @Test func theOneDiskThatIsWrittenIsTheFile() {
        let nodes = [#"{"driver":"file","node-name":"file"}"#, #"{"driver":"qcow2","node-name":"disk","file":"file"}"#]
        let machine = ApplianceMachine(
            media: ApplianceMedia(kernel: "/m/vmlinuz", initramfs: "/m/initramfs.img"), accelerator: .tcg,
            memoryMiB: 1024, processorCount: 1,
            disks: [.init(WritableDisk(nodes: nodes, logicalSectorSize: 512))], channel: FileDescriptor(rawValue: 9))
        let arguments = machine.arguments
        #expect(arguments.filter { $0 == "-blockdev" }.count == 2 && nodes.allSatisfy(arguments.contains))
        // Without it, QEMU would stop the machine where there is no room, and nothing would answer.
        #expect(
            arguments.contains {
                $0.hasPrefix("virtio-blk-pci,drive=disk,serial=reforge-disk-0,")
                    && $0.hasSuffix("werror=report,rerror=report")
            })
        #expect(!arguments.contains { $0.contains("netdev") || $0.contains("nbd") })
    }
}
