// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import BootRepair

/// A disk with a system whose grub-install and update-grub are `hostile.c`, attached as a loop device, and what
/// that program is to reach outside of it.
struct HostileDisk: ~Copyable {
    static let mebibyte: UInt64 = 1 << 20
    /// The path of a C compiler; `nil` if there is none.
    static let compiler: String? = {
        let folders = (getenv("PATH").map { String(cString: $0) } ?? "").split(separator: ":").map(String.init)
        return ["cc", "gcc", "clang"].lazy
            .flatMap { name in (folders + ChildProcess.searchPath).map { "\($0)/\(name)" } }
            .first { Files.exists(FilePath($0)) }
    }()

    let folder: FilePath
    let image: FilePath
    let disk: LoopDevice
    let victimDisk: LoopDevice
    let victimFile: FilePath
    let victimAttribute: FilePath
    let outsideConfiguration: FilePath
    let victimProcess: ChildProcess
    /// The name of the process that the program leaves behind.
    let daemon: String

    static let configuration =
        "menuentry 'Test' {\nsearch --fs-uuid --set=root \(Fixture.rootUUID)\nlinux /v root=UUID=\(Fixture.rootUUID)\n}\n"
        + "menuentry 'Windows (on /dev/sdb1)' {\nsearch --fs-uuid --set=root 1234-ABCD\nchainloader +1\n}\n"
    static let shortConfiguration = String(configuration.split(separator: "menuentry 'Windows")[0])

    /// - Parameters:
    ///   - linksOut: whether /boot/grub and GRUB's modules are links out of the tree.
    ///   - newConfiguration: the output of its update-grub.
    init(linksOut: Bool, newConfiguration: String) throws {
        let folder = try Files.makeTemporaryFolder("reforge-hostile-test")
        let daemon = "hostile-\(folder.string.suffix(6))"
        let image = folder.appending("disk.raw")
        let victimFile = folder.appending("victim")
        let outsideConfiguration = folder.appending("outside/grub.cfg")
        try Files.makeFolders(folder.appending("outside"))
        try Files.write(Array("victim".utf8), to: victimFile)
        try Files.write(Array("outside".utf8), to: outsideConfiguration)
        try Files.write([UInt8](repeating: 0, count: 1 << 20), to: folder.appending("victim.raw"))
        let victimDisk = try LoopDevice(over: folder.appending("victim.raw"), range: 0..<Self.mebibyte)
        try Self.make(image, byteCount: 64 * Self.mebibyte)
        let disk = try LoopDevice(over: image, range: 0..<64 * Self.mebibyte)
        let name = disk.path.lastComponent?.string ?? ""
        let victimAttribute = FilePath("/sys/block/\(name)/queue/read_ahead_kb")
        let victimProcess = try ChildProcess(["sleep", "120"])
        let settings = """
            disk \(name)
            victim-file \(victimFile)
            victim-minor \(victimDisk.path.string.drop { !$0.isNumber })
            victim-attribute \(victimAttribute)
            victim-process \(victimProcess.processID)
            daemon \(daemon)

            """
        try Self.fill(
            disk.path, folder: folder, victimDisk: victimDisk.path, settings: settings, linksOut: linksOut,
            newConfiguration: newConfiguration)
        self.folder = folder
        self.daemon = daemon
        self.image = image
        self.victimFile = victimFile
        self.outsideConfiguration = outsideConfiguration
        self.victimAttribute = victimAttribute
        self.victimDisk = victimDisk
        self.disk = disk
        self.victimProcess = victimProcess
    }

    deinit {
        kill(victimProcess.processID, SIGKILL)
        waitpid(victimProcess.processID, nil, 0)
        _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string])
    }

    private static func make(_ path: FilePath, byteCount: UInt64) throws {
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(file.raw, path.string, to: byteCount)
    }

    /// GPT, a BIOS boot partition at 1 MiB, ext4 at 2 MiB; the boot chain looks elsewhere.
    private static func fill(
        _ disk: FilePath, folder: FilePath, victimDisk: FilePath, settings: String, linksOut: Bool,
        newConfiguration: String
    ) throws {
        let tree = folder.appending("tree")
        let outside = folder.appending("outside")
        let victimFile = folder.appending("victim")
        for inner in ["etc", "boot", "usr/sbin", "usr/lib/grub"] { try Files.makeFolders(tree.appending(inner)) }
        let program = tree.appending("usr/sbin/grub-install")
        let source = FilePath(#filePath).removingLastComponent().appending("hostile.c")
        try ok([HostileDisk.compiler ?? "cc", "-static", "-O1", "-o", program.string, source.string])
        try ok(["cp", program.string, tree.appending("usr/sbin/update-grub").string])
        try Files.write(Array("ID=debian\n".utf8), to: tree.appending("etc/os-release"))
        try Files.write(Array("UUID=\(Fixture.rootUUID) / ext4 defaults 0 1\n".utf8), to: tree.appending("etc/fstab"))
        try Files.write(Array(settings.utf8), to: tree.appending("hostile.conf"))
        try Files.write(Array(newConfiguration.utf8), to: tree.appending("new.cfg"))
        try Files.write([], to: tree.appending("boot/vmlinuz-1"))
        try Files.write([], to: tree.appending("boot/initrd.img-1"))
        try Files.makeDeviceNode(tree.appending("victim-node"), like: victimDisk)
        // The target of the link inside the tree, where a link resolved in the tree ends.
        let grub = linksOut ? tree.appending(String(outside.string.drop { $0 == "/" })) : tree.appending("boot/grub")
        try Files.makeFolders(grub)
        if linksOut {
            try Files.makeLink(tree.appending("boot/grub"), to: "../../../../../../../../../..\(outside)")
            // An absolute link at a mount point.
            try Files.makeFolders(tree.appending("opt"))
            try Files.makeLink(tree.appending("run"), to: "/opt")
        }
        try Files.write(Array(Self.configuration.utf8), to: grub.appending("grub.cfg"))
        try Files.makeFolders(tree.appending("usr/lib/grub/i386-pc"))
        try Files.write([], to: tree.appending("usr/lib/grub/i386-pc/modinfo.sh"))
        try Files.makeLink(tree.appending("usr/lib/grub/i386-pc/kernel.img"), to: "../../../../../..\(victimFile)")
        try Files.makeLink(tree.appending("usr/lib/grub/i386-pc/a.mod"), to: victimFile.string)
        try Files.write(Array("whole".utf8), to: tree.appending("usr/lib/grub/i386-pc/whole.mod"))
        let table = """
            label: gpt
            start=2048, size=2048, type=\(PartitionType.biosBoot)
            start=4096, size=120000, type=\(PartitionType.linuxFilesystem)

            """
        try ok(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.string], Array(table.utf8))
        try ok([
            "mke2fs", "-q", "-F", "-t", "ext4", "-U", Fixture.rootUUID, "-d", tree.string, "-E",
            "offset=\(2 * Self.mebibyte)", disk.string, "58M",
        ])
        let device = try BlockDevice(opening: disk, .exclusiveWrite)
        let block = try device.readBytes(at: 0, count: 512)
        try device.writeBytes(Array(Fixture.bootSector(coreSector: 34)[..<440]) + block[440...], at: 0)
        try device.writeBytes(Fixture.core(sectors: 60, start: 34), at: Self.mebibyte)
        try device.flush()
    }

    private static func ok(_ command: [String], _ input: [UInt8] = []) throws {
        let output = try ChildProcess.run(command, input: input)
        try #require(output.succeeded, "\(command): \(output.lastWords)")
    }

    /// The state outside, in comparable form.
    borrowing func outside() throws -> [String] {
        let victim = try BlockDevice(opening: victimDisk.path)
        let isZero = try victim.readBytes(at: 0, count: 1 << 20).allSatisfy { $0 == 0 }
        return [
            try String(decoding: Files.read(victimFile), as: UTF8.self),
            try String(decoding: Files.read(outsideConfiguration), as: UTF8.self),
            isZero ? "victim disk: zero" : "victim disk: written",
            Files.text(victimAttribute) ?? "no attribute",
            Files.text("/proc/sys/kernel/core_pattern") ?? "no pattern",
            Files.text("/proc/sys/kernel/hostname") ?? "no name",
            victimProcess.poll() == nil ? "victim process: alive" : "victim process: ended",
        ]
    }

    /// The processes that the program left behind.
    borrowing func leftBehind() -> [String] {
        Files.names(in: "/proc").filter { Files.text(FilePath("/proc/\($0)/comm")) == daemon }
    }
}
