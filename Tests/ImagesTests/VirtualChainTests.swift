// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages

/// Disks of virtual machines in one file or in several.
@Suite(
    .enabled(
        if: ChildProcess.canFind("qemu-img") && ChildProcess.canFind("qemu-storage-daemon"),
        "needs QEMU's tools"))
struct VirtualChainTests {
    private let scratch: ScratchFolder
    init() throws {
        scratch = try ScratchFolder()
        try shell("mkdir vm")
    }

    private func path(_ name: String) -> FilePath { scratch.path.appending("vm").appending(name) }

    private func shell(_ command: String) throws {
        let done = try ChildProcess.run(["sh", "-c", "set -e; cd '\(scratch.path)'; [ ! -d vm ] || cd vm; \(command)"])
        try #require(done.succeeded, "\(command): \(done.lastWords)")
    }

    private func content(_ name: String, allowsBacking: Bool = false) throws -> [UInt8] {
        var request = DiskRequest(path(name), scratch: scratch.path)
        request.allowsBacking = allowsBacking
        let disk = try VirtualDisk(request)
        let bytes = try disk.readBytes(at: 0, count: Int(disk.byteCount))
        try disk.confirmEnd()
        return bytes
    }

    private func refused(_ name: String, _ says: String, allowsBacking: Bool = false) {
        do {
            _ = try content(name, allowsBacking: allowsBacking)
            Issue.record("\(name) was read, in spite of: \(says)")
        } catch { #expect("\(error)".contains(says), "\(error)") }
    }

    /// Bytes with holes, in a file of whole MiB.
    private func makeRaw() throws -> [UInt8] {
        var random = SeededGenerator(seed: 5)
        var bytes = [UInt8](repeating: 0, count: 6 << 20)
        for range in [0..<300_000, 3 << 20..<(3 << 20) + 70_000, (6 << 20) - 700..<6 << 20] {
            for index in range { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        }
        try Files.write(bytes, to: path("raw"))
        return bytes
    }

    @Test(arguments: [
        ("a.qcow2", "-O qcow2"), ("b.qcow2", "-c -O qcow2"), ("c.vmdk", "-O vmdk"),
        ("d.vmdk", "-O vmdk -o subformat=streamOptimized"), ("e.vmdk", "-O vmdk -o subformat=twoGbMaxExtentSparse"),
        ("f.vmdk", "-O vmdk -o subformat=twoGbMaxExtentFlat"), ("g.vmdk", "-O vmdk -o subformat=monolithicFlat"),
        ("h.vhdx", "-O vhdx"), ("i.vhdx", "-O vhdx -o subformat=fixed"), ("j.vdi", "-O vdi"),
        ("k.vhd", "-O vpc -o force_size=on"), ("l.vhd", "-O vpc -o subformat=fixed,force_size=on"),
        ("m", "-O qcow2"),
    ]) func eachFormatHoldsTheDisk(name: String, options: String) throws {
        let raw = try makeRaw()
        try shell("qemu-img convert -f raw \(options) raw \(name)")
        let found = try FileContents.detect(path(name))
        guard case .disk(let format) = found else { throw Problem("\(found)") }
        #expect(format.isVirtual && !format.isPlain)
        #expect(try content(name) == raw)
    }

    /// QEMU reads zeros behind the end of a truncated file, without an error.
    @Test(arguments: [
        ("a.qcow2", "-O qcow2"), ("b.qcow2", "-c -O qcow2"), ("c.vmdk", "-O vmdk"),
        ("d.vmdk", "-O vmdk -o subformat=streamOptimized"), ("e.vmdk", "-O vmdk -o subformat=twoGbMaxExtentSparse"),
        ("f.vhdx", "-O vhdx"), ("g.vdi", "-O vdi"), ("h.vhd", "-O vpc -o force_size=on"),
    ]) func aTruncatedImageIsRefusedOrWhole(name: String, options: String) throws {
        let raw = try makeRaw()
        try shell("qemu-img convert -f raw \(options) raw \(name)")
        let part = name == "e.vmdk" ? "e-s001.vmdk" : name
        let whole = try Files.read(path(part), limit: 1 << 30)
        // The end of a file may hold nothing that the disk needs.
        var refusedCount = 0
        for count in [512, 1024, 4096, 60_000]
            + [95, 80, 50, 20, 5].map({ whole.count / 100 * (100 - $0) / 512 * 512 })
        {
            try Files.write(Array(whole.dropLast(count)), to: path(part))
            do { #expect(try content(name) == raw, "\(count) bytes less") } catch { refusedCount += 1 }
        }
        #expect(refusedCount >= 4)
    }

    @Test func aTruncatedOverlayIsNeverUsed() throws {
        try shell(
            """
            qemu-img create -q -f qcow2 -u -F raw -b reforge-base a.qcow2 6M
            truncate -s 6M reforge-base; qemu-io -f qcow2 -c 'write -P 7 1M 200000' a.qcow2 >/dev/null
            cp a.qcow2 b.qcow2; truncate -s -512 b.qcow2
            qemu-img create -q -f qcow2 -o data_file=data c.qcow2 6M
            """)
        try KeptOverlay.check(path("a.qcow2"))
        for name in ["b.qcow2", "c.qcow2", "data"] {
            #expect(throws: ImageError.self, "\(name)") { try KeptOverlay.check(path(name)) }
        }
    }

    /// Tables in a sparse file of terabytes take hours to check.
    @Test func theCheckOfTablesEndsWithTheJob() throws {
        _ = try makeRaw()
        try shell("qemu-img convert -f raw -O qcow2 raw a.qcow2; qemu-img convert -f raw -O vmdk raw b.vmdk")
        let ended = Cancellation()
        ended.request(2)
        for name in ["a.qcow2", "b.vmdk"] {
            #expect(throws: ImageError.self) {
                try VirtualChain(path(name), allowsBacking: false, cancellation: ended)
            }
        }
        #expect(throws: ImageError.self) { try KeptOverlay.check(path("a.qcow2"), cancellation: ended) }
    }

    @Test func aTruncatedBaseIsNeverRead() throws {
        _ = try makeRaw()
        try shell(
            """
            qemu-img convert -f raw -O qcow2 raw base.qcow2
            qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2; truncate -s 400K base.qcow2
            """)
        refused("top.qcow2", "base.qcow2")
    }

    private struct Problem: Error {
        let text: String
        init(_ text: String) { self.text = text }
    }

    /// A raw name says that the bytes are the disk.
    @Test func aRawNameCounts() throws {
        _ = try makeRaw()
        try shell(
            "qemu-img convert -f raw -O qcow2 raw a.img; qemu-img convert -f raw -O vpc -o subformat=fixed raw b.raw")
        for name in ["a.img", "b.raw"] {
            guard case .disk(let format) = try FileContents.detect(path(name)) else { throw Problem(name) }
            #expect(format.isPlain)
        }
    }

    /// VirtualBox states a length that its geometry does not reach; QEMU believes the geometry.
    @Test func aVHDIsReadWholeOrNotAtAll() throws {
        _ = try makeRaw()
        try shell("qemu-img convert -f raw -O vpc -o force_size=on raw a.vhd")
        var file = try Files.read(path("a.vhd"), limit: 1 << 30)
        for start in [0, file.count - 512] {
            file.replaceSubrange(start + 28..<start + 32, with: Array("vbox".utf8))
            // 180 cylinders, 4 heads, 17 sectors: 12240 of 12288.
            file.replaceSubrange(start + 56..<start + 60, with: [0, 180, 4, 17])
            file.replaceSubrange(start + 64..<start + 68, with: [0, 0, 0, 0])
            let sum = ~file[start..<start + 512].reduce(0 as UInt32) { $0 &+ UInt32($1) }
            for index in 0..<4 { file[start + 64 + index] = UInt8(truncatingIfNeeded: sum >> (24 - 8 * UInt32(index))) }
        }
        try Files.write(file, to: path("b.vhd"))
        refused("b.vhd", "would leave out the rest")
    }

    /// A fixed VHD is its disk and a footer: without a valid one, it must not pass for a raw disk.
    @Test func aDamagedFooterIsNoDisk() throws {
        _ = try makeRaw()
        try shell("qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on raw a.vhd")
        try shell("printf x | dd of=a.vhd conv=notrunc bs=1 seek=$(($(stat -c %s a.vhd) - 100)) status=none")
        guard case .unknown(let why) = try FileContents.detect(path("a.vhd")) else { throw Problem("a disk") }
        #expect(why.contains("damaged"))
        refused("a.vhd", "no disk image")
    }

    /// The bytes of an image whose magic number is lost are those of no disk.
    @Test(arguments: ["a.qcow2", "a.vmdk", "a.vhdx", "a.vdi", "a.vhd", "a-flat.vmdk", "a", "a.img"])
    func aNameThatTheContentsContradictIsNoDisk(name: String) throws {
        try Files.write([UInt8](repeating: 0x21, count: 1 << 20), to: path(name))
        let why = try DiskFormat.virtualContradiction(path(name))
        let isDisk = ["a-flat.vmdk", "a", "a.img"].contains(name)
        #expect((why == nil) == isDisk)
        guard let why, case .unknown(let said) = try FileContents.detect(path(name)) else {
            #expect(isDisk)
            return
        }
        #expect(said == why && why.contains("damaged"))
    }

    @Test func aChainIsReadToItsBase() throws {
        _ = try makeRaw()
        try shell(
            """
            cp raw base; truncate -s 5M base
            qemu-img create -q -f qcow2 -F raw -b base one.qcow2 6M
            qemu-io -f qcow2 -c 'write -P 7 1M 70000' one.qcow2 >/dev/null
            qemu-img create -q -f qcow2 -F qcow2 -b one.qcow2 two.qcow2
            qemu-io -f qcow2 -c 'write -P 9 2M 512' two.qcow2 >/dev/null
            qemu-img convert -f qcow2 -O raw two.qcow2 oracle
            """)
        #expect(try content("two.qcow2") == Files.read(path("oracle"), limit: 1 << 30))
        let chain = try VirtualChain(path("two.qcow2"), allowsBacking: false)
        #expect(chain.files.count == 3)
        // The identity of the disk depends on every file.
        let before = chain.files.flatMap(\.facts)
        try shell("touch -d '2001-01-01' base")
        #expect(try VirtualChain(path("two.qcow2"), allowsBacking: false).files.flatMap(\.facts) != before)
        try shell("rm base")
        refused("two.qcow2", "does not exist")
    }

    @Test func aSnapshotOfAVMDKNeedsItsParent() throws {
        _ = try makeRaw()
        try shell(
            """
            qemu-img convert -f raw -O vmdk raw base.vmdk
            qemu-img create -q -f vmdk -F vmdk -b base.vmdk top.vmdk
            qemu-io -f vmdk -c 'write -P 7 1M 70000' top.vmdk >/dev/null
            qemu-img convert -f vmdk -O raw top.vmdk oracle
            """)
        #expect(try content("top.vmdk") == Files.read(path("oracle"), limit: 1 << 30))
        try shell("qemu-io -f vmdk -c 'write -P 8 4M 512' base.vmdk >/dev/null")
        refused("top.vmdk", "was changed after the snapshot")
    }

    /// QEMU itself skips parts of zeros, and takes a part after an empty line twice.
    @Test func aDescriptionIsReadAsItIsMeant() throws {
        let raw = try makeRaw()
        try shell("qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse raw s.vmdk; head -c 2M raw >flat")
        let description = """
            # Disk DescriptorFile
            version=1
            CID=0a1b2c3d
            parentCID=ffffffff
            createType="twoGbMaxExtentSparse"

            RW 12288 SPARSE "s-s001.vmdk"
            RW 2048 ZERO
            RDONLY 2048 FLAT "flat" 2048

            """
        try Files.write(Array(description.utf8), to: path("disk.vmdk"))
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        #expect(try content("disk.vmdk") == raw + zeros + raw[1 << 20..<2 << 20])
        // Tens of thousands of parts of zeros need no descriptor each.
        let many = description + String(repeating: "RW 8 ZERO\n", count: 2000)
        try Files.write(Array(many.utf8), to: path("many.vmdk"))
        #expect(try VirtualChain(path("many.vmdk"), allowsBacking: false).attachments.count == 5)
        try Files.write(Array(description.replacing("RW 12288", with: "RW 12280").utf8), to: path("less.vmdk"))
        refused("less.vmdk", "12288 sectors")
        try Files.write(
            Array(description.replacing("\"flat\" 2048", with: "\"flat\" 2049").utf8), to: path("past.vmdk"))
        refused("past.vmdk", "ends too early")
    }

    @Test func otherFilesAreReadOnlyWhereAllowed() throws {
        let raw = try makeRaw()
        try shell(
            """
            mv raw ../outside
            qemu-img create -q -f qcow2 -F raw -b ../outside up.qcow2
            qemu-img create -q -f qcow2 -F raw -b '\(scratch.path)/outside' absolute.qcow2
            ln -s ../outside link; qemu-img create -q -f qcow2 -F raw -b link link.qcow2
            qemu-img create -q -f qcow2 -F raw -b /etc/passwd -u secret.qcow2 1M
            """)
        for name in ["up.qcow2", "absolute.qcow2", "link.qcow2"] {
            refused(name, "--allow-backing")
            #expect(try content(name, allowsBacking: true) == raw)
        }
        refused("secret.qcow2", "--allow-backing")
    }

    @Test func onlyPlainPathsAreFollowed() throws {
        _ = try makeRaw()
        for (index, name) in [
            "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "nbd://localhost/x", "http://localhost/x",
            "nbd:unix:/x",
            "file:raw", "fat:/etc",
        ].enumerated() {
            try shell("qemu-img create -q -f qcow2 -F raw -b '\(name)' -u \(index).qcow2 1M")
            refused("\(index).qcow2", "no path of a file", allowsBacking: true)
        }
        try shell("mkfifo pipe; qemu-img create -q -f qcow2 -F raw -b pipe -u pipe.qcow2 1M")
        refused("pipe.qcow2", "not a regular file", allowsBacking: true)
        try shell("qemu-img create -q -f qcow2 -F raw -b /dev/zero -u device.qcow2 1M")
        refused("device.qcow2", "not a regular file", allowsBacking: true)
    }

    /// The user of a raw base may have written the header of another format into it.
    @Test func aFormatThatContradictsIsRefused() throws {
        _ = try makeRaw()
        try shell(
            """
            qemu-img create -q -f qcow2 -F raw -b raw inner.qcow2
            qemu-img create -q -f qcow2 -F raw -b inner.qcow2 -u outer.qcow2 1M
            """)
        refused("outer.qcow2", "of the format raw, but that is a qcow2 image")
    }

    /// A guess takes a raw disk for what its user wrote into it, and an image with a damaged start for a raw disk.
    @Test func aFormatThatIsNotStatedIsNotGuessed() throws {
        _ = try makeRaw()
        try shell(
            """
            qemu-img convert -f raw -O qcow2 raw base.qcow2
            qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2
            """)
        var bytes = try Files.read(path("top.qcow2"), limit: 1 << 30)
        // The type of the extension that states it; extensions of unknown types are skipped.
        let type: [UInt8] = [0xE2, 0x79, 0x2A, 0xCA]
        let place = try #require(bytes.indices.prefix(4096).first { bytes[$0...].starts(with: type) })
        bytes[place] = 0x12
        try Files.write(bytes, to: path("top.qcow2"))
        refused("top.qcow2", "does not say of which format")
        try shell("dd if=/dev/zero of=base.qcow2 bs=4 count=1 conv=notrunc status=none")
        refused("top.qcow2", "does not say of which format")
    }

    /// As with `mount -o loop`, which takes no locks.
    @Test(.enabled(if: SystemFacts.isRoot && Files.exists("/dev/loop-control"), "mounts need root"))
    func aMountedPartIsRefused() throws {
        try shell(
            """
            truncate -s 8M base; mke2fs -q -F base; mkdir at
            qemu-img create -q -f qcow2 -F raw -b base top.qcow2; mount -o loop base at
            """)
        refused("top.qcow2", "mounted read-write")
        try shell("umount at; mount -o loop,ro base at")
        defer { try? shell("umount at") }
        #expect(try content("top.qcow2").count == 8 << 20)
    }

    @Test func aCycleEnds() throws {
        _ = try makeRaw()
        try shell(
            """
            qemu-img create -q -f qcow2 -F qcow2 -b b.qcow2 -u a.qcow2 1M
            qemu-img create -q -f qcow2 -F qcow2 -b a.qcow2 -u b.qcow2 1M
            qemu-img create -q -f qcow2 -F qcow2 -b ./self.qcow2 -u self.qcow2 1M
            for i in $(seq 70); do qemu-img create -q -f qcow2 -F qcow2 -b c$((i+1)).qcow2 -u c$i.qcow2 1M; done
            """)
        refused("a.qcow2", "its own backing file")
        refused("self.qcow2", "its own backing file")
        refused("c1.qcow2", "more than 64 snapshots")
    }

    @Test func aDataFileIsRead() throws {
        let raw = try makeRaw()
        try shell("qemu-img convert -f raw -O qcow2 -o data_file=data,data_file_raw=on raw split.qcow2")
        #expect(try content("split.qcow2") == raw)
    }

    /// As a running virtual machine locks it.
    @Test func aDiskInUseIsRefused() throws {
        _ = try makeRaw()
        try shell("qemu-img create -q -f qcow2 -F raw -b raw top.qcow2")
        let base = try BlockDevice(opening: path("raw"), .exclusiveWrite)
        for byte: UInt64 in [101, 201] {
            #expect(try FileLock.take(base.fileDescriptor, forWriting: false, start: byte, byteCount: 1) == .granted)
        }
        refused("top.qcow2", "is in use")
    }

    @Test func aChangeIsNoticed() throws {
        _ = try makeRaw()
        try shell("qemu-img create -q -f qcow2 -F raw -b raw top.qcow2")
        let disk = try VirtualDisk(DiskRequest(path("top.qcow2")))
        try disk.confirmEnd()
        try shell("printf x | dd of=raw conv=notrunc bs=1 seek=4096 status=none")
        #expect(throws: ImageError.self) { try disk.confirmEnd() }
    }
}
