// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

@Suite struct LinuxSystemTests {
    @Test func mountTableLinesAreParsed() {
        let text = """
            36 35 98:0 /mnt1 /mnt2\\040with\\134odd rw,noatime master:1 - ext3 /dev/root rw,errors=continue
            nonsense
            37 35 0:5 / /dev rw - devtmpfs udev ro,size=1
            """
        let entries = MountEntry.parse(text)
        #expect(entries.count == 2)
        #expect(entries[0].mountPoint == "/mnt2 with\\odd" && entries[0].device == "98:0" && !entries[0].isReadOnly)
        #expect(entries[1].isReadOnly && entries[1].type == "devtmpfs")
    }

    /// A copy of the mount table must not keep a disk in use after its owner unmounts it.
    @Test func mountsThatWouldOutliveAnUnmountAreKnown() {
        func holds(_ lines: String...) -> Bool {
            MountEntry.holdsDisks(MountEntry.parse(lines.joined(separator: "\n")))
        }
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw"
        #expect(!holds(root, "21 20 8:1 /var /srv rw - ext4 /dev/sda1 rw", "22 20 0:5 / /dev rw - devtmpfs udev rw"))
        #expect(!holds(root, "23 20 8:17 / /mnt rw master:3 - ext4 /dev/sdb1 rw"))
        #expect(!holds(root, "23 20 8:17 / /mnt rw shared:3 - ext4 /dev/sdb1 rw"))
        #expect(holds(root, "23 20 8:17 / /mnt rw - ext4 /dev/sdb1 rw"))
        #expect(holds(root, "23 20 0:50 /@ /mnt rw - btrfs /dev/sdb1 rw"))
    }

    /// An output went into the folder that the repaired name means.
    @Test func aPathThatIsNoTextIsNotRepaired() throws {
        let scratch = try ScratchFolder()
        let made = try ChildProcess.run(
            [
                "sh", "-c", #"cd "$1"; odd=$(printf '\377'); mkdir "$odd" plain; ln -s "$odd" odd; ln -s plain link"#,
                "sh", scratch.path.string,
            ])
        try #require(made.succeeded, "\(made.lastWords)")
        try Files.makeFolders(scratch.path.appending("\u{FFFD}"))
        #expect(Files.realFolder(scratch.path.appending("link"))?.lastComponent == "plain")
        #expect(Files.realFolder(scratch.path.appending("odd")) == nil)
    }

    @Test func childrenAreFedAndDrained() throws {
        // More than a pipe holds, both ways at once.
        let input = [UInt8](repeating: 65, count: 1 << 20)
        let output = try ChildProcess.run(["cat"], input: input)
        #expect(output.succeeded && output.standardOutput == input)
        let failed = try ChildProcess.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        #expect(failed.ending == .exited(3) && failed.text == "out\n" && failed.errorText == "err\n")
        #expect(throws: SystemCallError.self) { try ChildProcess.run(["/no/such/program"]) }
    }

    @Test func aChildThatHangsIsKilled() throws {
        let start = SystemFacts.monotonicSeconds()
        for command in [["sleep", "60"], ["sh", "-c", "exec >&- 2>&-; exec sleep 60"]] {
            let output = try ChildProcess.run(command, timeoutSeconds: 0.3)
            #expect(output.ending == .signalled(SIGKILL))
        }
        // One that closes its outputs and ends in time is waited for.
        let output = try ChildProcess.run(["sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 3"], timeoutSeconds: 30)
        #expect(output.ending == .exited(3))
        #expect(SystemFacts.monotonicSeconds() - start < 10)
    }

    @Test func childrenInheritNothing() throws {
        let scratch = try ScratchFolder()
        let leak = Glibc.open(scratch.path.appending("leak").string, O_CREAT | O_RDWR, 0o600)
        defer { close(leak) }
        let output = try ChildProcess.run(["sh", "-c", "ls /proc/self/fd"])
        #expect(!output.text.split(separator: "\n").contains("\(leak)"))
    }

    @Test func pathsStayBelowTheirAnchor() throws {
        let scratch = try ScratchFolder()
        let root = scratch.path.appending("root")
        try Files.makeFolders(root.appending("etc/deep"))
        try Files.write(Array("outside".utf8), to: scratch.path.appending("secret"))
        symlink("../secret", root.appending("escape").string)
        symlink(scratch.path.appending("secret").string, root.appending("absolute").string)
        symlink("/etc", root.appending("inside").string)
        let folder = try AnchoredFolder(root)
        #expect(throws: SystemCallError.self) { try folder.read("escape") }
        #expect(throws: SystemCallError.self) { try folder.read("absolute") }
        #expect(throws: SystemCallError.self) { try folder.read("../secret") }
        try folder.write(Array("new".utf8), to: "inside/fstab")
        #expect(try Files.read(root.appending("etc/fstab")) == Array("new".utf8))
        chmod(root.appending("etc/fstab").string, 0o600)
        try folder.write(Array("newer".utf8), to: "etc/fstab")
        var status = stat()
        stat(root.appending("etc/fstab").string, &status)
        #expect(status.st_mode & 0o777 == 0o600)
        try folder.makeFolders("etc/deep/er")
        #expect(folder.names(in: "etc/deep") == ["er"])
    }

    /// As on a full filesystem.
    @Test func aFileThatCannotBeReplacedLeavesNoPiece() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("file")
        try Files.makeFolders(path)
        #expect(throws: SystemCallError.self) { try Files.write([1], to: path) }
        #expect(Files.names(in: scratch.path) == ["file"])
    }

    @Test func queuesKeepOrderAndEnd() throws {
        let queue = BoundedQueue<Int>(capacity: 2)
        let producer = try WorkerThread {
            for number in 0..<1000 { queue.push(number) }
            queue.close()
        }
        var received: [Int] = []
        while let number = queue.pop() { received.append(number) }
        producer.join()
        #expect(received == Array(0..<1000))
        #expect(!queue.push(1))
    }

    @Test func filesAsDisks() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        try Files.write([UInt8](repeating: 7, count: 8192), to: path)
        let disk = try BlockDevice(opening: path, .exclusiveWrite, sectorSize: 4096)
        #expect(disk.byteCount == 8192 && disk.logicalSectorSize == 4096 && !disk.isDevice)
        try disk.writeZeros(100..<200)
        try disk.writeBytes([1, 2, 3], at: 8189)
        #expect(try disk.readBytes(at: 98, count: 4) == [7, 7, 0, 0])
        #expect(throws: BlockIOError.self) { try disk.writeBytes([1, 2, 3, 4], at: 8189) }
        #expect(throws: BlockIOError.self) { try disk.readBytes(at: .max, count: 2) }
        #expect(throws: SystemCallError.self) { try BlockDevice(opening: FilePath("/dev/null")) }
        #expect(throws: SystemCallError.self) { try BlockDevice(opening: scratch.path.appending("missing")) }
    }

    @Test(.enabled(if: SystemFacts.isRoot, "loop devices need root"))
    func loopDevicesShowAPartOfAFile() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        try Files.write((0..<65_536).map { UInt8($0 / 4096) } as [UInt8], to: path)
        var node = FilePath("")
        do {
            let loop = try LoopDevice(over: path, range: 8192..<16_384)
            node = loop.path
            let device = try BlockDevice(opening: node, .exclusiveWrite)
            #expect(device.byteCount == 8192 && device.isDevice)
            #expect(try device.readBytes(at: 4095, count: 2) == [2, 3])
            try device.writeBytes([0xEE], at: 0)
        }
        #expect(try Files.read(path)[8192] == 0xEE)
        // The kernel releases the file a moment after the last close.
        let backing = FilePath("/sys/block/\(node.lastComponent?.string ?? "none")/loop/backing_file")
        for _ in 0..<100 where Files.text(backing) == path.string { SystemFacts.sleep(seconds: 0.05) }
        #expect(Files.text(backing) != path.string)
    }

    @Test func usesAreFollowedUpButNotThroughWhatIsLeftOut() throws {
        let scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        // One volume on a partition, another on LUKS on the next partition.
        for link in ["tda1/holders/tdm1", "tda2/holders/tdm2", "tdm2/holders/tdm3", "tdm1", "tdm3"] {
            try Files.makeFolders(sys.appending("class/block/\(link)"))
        }
        for (number, name) in ["tda1", "tda2"].enumerated() {
            let folder = sys.appending("block/tda/\(name)")
            try Files.makeFolders(folder)
            for (file, text) in [("partition", "\(number + 1)"), ("start", "2048"), ("size", "2048")] {
                try Files.write([UInt8](text.utf8), to: folder.appending(file))
            }
        }
        let directory = DiskDirectory(sys: sys)
        func holders(_ stopped: Set<String>) -> [String] {
            directory.uses(of: "tda", notThrough: stopped).compactMap { use in
                if case .held(_, _, let holder) = use { return holder }
                return nil
            }
        }
        #expect(holders([]) == ["tdm1", "tdm2", "tdm3"])
        #expect(holders(["tdm1"]) == ["tdm2", "tdm3"])
        #expect(holders(["tdm1", "tdm2"]).isEmpty)
    }

    @Test func removableDisksAndDriversAtWork() throws {
        let scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        func write(_ text: String, to file: String) throws {
            let path = sys.appending(file)
            try Files.makeFolders(path.removingLastComponent())
            try Files.write([UInt8](text.utf8), to: path)
        }
        try write("0\n", to: "block/sda/removable")
        try write("1\n", to: "block/sdb/removable")
        try write("MMC\n", to: "block/mmcblk0/device/type")
        try write("SD\n", to: "block/mmcblk1/device/type")
        try write("0\n", to: "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/block/sdc/removable")
        try Files.makeLink(
            sys.appending("block/sdc"), to: "../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/block/sdc")
        // A PCI device in a Thunderbolt enclosure, and one that is soldered in.
        for (name, bridge, place) in [("nvme0n1", "1d", "fixed"), ("nvme1n1", "1c", "removable")] {
            let controller = "devices/pci0000:00/0000:00:\(bridge).0/0000:04:00.0"
            try write("\(place)\n", to: "\(controller)/removable")
            try write("0\n", to: "\(controller)/nvme/\(name.prefix(5))/\(name)/removable")
            try Files.makeLink(
                sys.appending("\(controller)/nvme/\(name.prefix(5))/\(name)/device"), to: "../../\(name.prefix(5))")
            try Files.makeLink(
                sys.appending("block/\(name)"), to: "../\(controller)/nvme/\(name.prefix(5))/\(name)")
        }
        let directory = DiskDirectory(sys: sys)
        let removable = ["sda", "sdb", "sdc", "mmcblk0", "mmcblk1", "nvme0n1", "nvme1n1"].filter(directory.isRemovable)
        #expect(removable == ["sdb", "sdc", "mmcblk1", "nvme1n1"])

        #expect(!directory.isProbing)
        try write("live\n", to: "class/nvme/nvme0/state")
        try write("live\n", to: "module/ahci/initstate")
        #expect(!directory.isProbing)
        try write("connecting\n", to: "class/nvme/nvme1/state")
        #expect(directory.isProbing)
        try write("dead\n", to: "class/nvme/nvme1/state")
        #expect(!directory.isProbing)
        try write("coming\n", to: "module/megaraid_sas/initstate")
        #expect(directory.isProbing)
    }

    /// Btrfs has its own device numbers, and a mount names only one member, by any name.
    @Test func membersOfMountedBtrfsAreInUse() throws {
        let scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        let proc = scratch.path.appending("proc")
        func write(_ text: String, to file: FilePath) throws {
            try Files.makeFolders(file.removingLastComponent())
            try Files.write([UInt8](text.utf8), to: file)
        }
        for (disk, dm, name) in [("tda", "tdm1", "cellar"), ("tdb", "tdm2", "attic"), ("tdc", "tdm3", "shed")] {
            try write("100", to: sys.appending("block/\(disk)/size"))
            try Files.makeFolders(sys.appending("class/block/\(disk)/holders/\(dm)"))
            try write(name, to: sys.appending("class/block/\(dm)/dm/name"))
        }
        try Files.makeFolders(sys.appending("fs/btrfs/features"))
        for member in ["tdm1", "tdm2"] { try Files.makeFolders(sys.appending("fs/btrfs/11/devices/\(member)")) }
        try Files.makeFolders(sys.appending("fs/btrfs/22/devices/tdm3"))
        try write(
            "41 28 0:39 /@ /srv rw - btrfs /dev/mapper/cellar rw,space_cache=v2\n", to: proc.appending("self/mountinfo")
        )
        let directory = DiskDirectory(sys: sys, proc: proc)
        #expect(directory.uses(of: "tda").contains(.mounted(node: "tdm1", at: "/srv", readOnly: false)))
        #expect(directory.uses(of: "tdb").contains(.mounted(node: "tdm2", at: "/srv", readOnly: false)))
        // In another mount namespace.
        #expect(directory.uses(of: "tdc").contains(.mounted(node: "tdm3", at: "an unknown place", readOnly: false)))
    }

    /// With an automount and a mount on top of it, the second one holds the files.
    @Test func theUppermostMountHoldsAFile() throws {
        let scratch = try ScratchFolder()
        let proc = scratch.path.appending("proc")
        try Files.makeFolders(proc.appending("self"))
        let text = "21 1 0:33 / / rw - autofs systemd-1 rw\n22 21 0:39 / / rw - btrfs /dev/tda1 rw\n"
        try Files.write([UInt8](text.utf8), to: proc.appending("self/mountinfo"))
        let directory = DiskDirectory(sys: scratch.path.appending("sys"), proc: proc)
        #expect(directory.nodes(holding: scratch.path) == ["tda1"])
    }

    @Test func disksAreFoundBelowPartitionsOfArrays() throws {
        let scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        for (name, place) in [
            ("tmd0", "virtual/block/tmd0"), ("tmd0p1", "virtual/block/tmd0/tmd0p1"), ("tda1", "pci/block/tda/tda1"),
            ("tda", "pci/block/tda"), ("tdb", "pci/block/tdb"),
        ] {
            try Files.makeFolders(sys.appending("devices/\(place)"))
            try Files.makeFolders(sys.appending("class/block"))
            symlink("../../devices/\(place)", sys.appending("class/block/\(name)").string)
        }
        for partition in ["virtual/block/tmd0/tmd0p1", "pci/block/tda/tda1"] {
            try Files.write([UInt8]("1".utf8), to: sys.appending("devices/\(partition)/partition"))
        }
        for slave in ["tda1", "tdb"] {
            try Files.makeFolders(sys.appending("devices/virtual/block/tmd0/slaves/\(slave)"))
        }
        #expect(DiskDirectory(sys: sys).disksBelow("tmd0p1") == ["tmd0", "tda", "tdb"])
    }

    @Test func placesInTheMachineAreNamedAsUdevDoes() throws {
        let scratch = try ScratchFolder()
        let sys = scratch.path.appending("sys")
        func add(_ name: String, at place: String) throws {
            try Files.makeFolders(sys.appending("devices/\(place)"))
            try Files.makeFolders(sys.appending("block"))
            symlink("../devices/\(place)", sys.appending("block/\(name)").string)
        }
        try add("nvme0n1", at: "pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1")
        try add("vda", at: "pci0000:00/0000:00:05.0/virtio2/block/vda")
        try add("sdb", at: "pci0000:00/0000:00:1d.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb")
        let directory = DiskDirectory(sys: sys)
        #expect(directory.pathByPlace(of: "nvme0n1") == "pci-0000:00:04.0-nvme-1")
        #expect(directory.pathByPlace(of: "vda") == "pci-0000:00:05.0")
        #expect(directory.pathByPlace(of: "sdb") == "pci-0000:00:1d.0-usb-0:1:1.0-scsi-0:0:0:0")
    }
}
