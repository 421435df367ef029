// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// The formats of exports, and the files that they must not replace.
@Suite struct ExportTargetTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> FilePath { scratch.path.appending(name) }

    private func target(
        _ name: String, _ format: ExportFormat = .qcow2, overwrites: Bool = false
    ) -> ExportTarget {
        ExportTarget(path(name), format, overwrites: overwrites)
    }

    private func status(_ target: ExportTarget) -> JobModel.ExitStatus {
        do { try target.refuse() } catch { return JobFailure(error, cancellation: Cancellation()).status }
        return .done
    }

    @Test(arguments: [
        ("a.qcow2", ExportFormat.qcow2), ("a.VMDK", .vmdk), ("a.b.vhdx", .vhdx), ("a.vhd", .vhd), ("a.vpc", .vhd),
        ("a.vdi", .vdi), ("a.img", .raw), ("a.raw", .raw), ("a.dd", .raw),
    ]) func theNameSaysTheFormat(name: String, format: ExportFormat) throws {
        #expect(try ExportFormat.chosen(nil, for: FilePath(name)) == format)
        #expect(try ExportFormat.chosen("vdi", for: FilePath(name)) == .vdi)
    }

    @Test(arguments: ["a", "a.iso", "a.img.zst", "qcow2", ".qcow2"]) func otherNamesSayNone(name: String) {
        let error = #expect(throws: JobFailure.self) { _ = try ExportFormat.chosen(nil, for: FilePath(name)) }
        #expect(error?.status == .usage && error?.message.contains("--format") == true)
        #expect(throws: JobFailure.self) { _ = try ExportFormat.chosen("qcow3", for: FilePath("a.qcow2")) }
    }

    /// With these options, every format holds exactly the bytes of the disk: a VHD would be longer otherwise.
    @Test(arguments: ExportFormat.allCases) func everyFormatKeepsTheLength(format: ExportFormat) throws {
        for byteCount in [64 << 20, (64 << 20) + 512, 32 << 30 - 512] {
            let file = path("made")
            var arguments = ["qemu-img", "create", "-q", "-f", format.driver]
            for option in format.options { arguments += ["-o", option] }
            let made = try ChildProcess.run(arguments + [file.string, "\(byteCount)"])
            try #require(made.succeeded, "\(made.lastWords)")
            let told = try ChildProcess.run(
                ["qemu-img", "info", "-f", format.driver, "--output=json", file.string])
            #expect(told.text.contains("\"virtual-size\": \(byteCount)"))
            // What `--overwrite` may replace.
            #expect(try KnownImage.identify(fileAt: file)?.name == format.knownName)
            #expect(status(ExportTarget(file, format, overwrites: true)) == .done)
            try Files.remove(file)
        }
    }

    @Test func aDiskThatIsTooLongIsRefusedBefore() throws {
        try ExportFormat.vhd.refuse(2040 << 30)
        #expect(throws: JobFailure.self) { try ExportFormat.vhd.refuse(2041 << 30) }
        #expect(throws: JobFailure.self) { try ExportFormat.vhdx.refuse(65 << 40) }
        try ExportFormat.qcow2.refuse(65 << 40)
    }

    @Test func namesThatCannotBeMade() throws {
        #expect(status(target("new.qcow2")) == .done)
        // The name stands in quotes inside the file: found after the whole copy, it would be too late.
        #expect(status(target("a\"b.vmdk", .vmdk)) == .usage && status(target("a\"b.qcow2")) == .done)
        #expect(status(target("none/new.qcow2")) == .cannotCreate)
        // A program that is given the repaired name would write into another folder.
        _ = try ChildProcess.run(
            [
                "sh", "-c", #"odd=$(printf '\377'); cd "$1" && mkdir "$odd" && ln -s "$odd" odd"#, "sh",
                scratch.path.string,
            ])
        #expect(status(target("odd/new.qcow2")) == .cannotCreate)
        try Files.makeFolders(path("folder.qcow2"))
        #expect(status(target("folder.qcow2", overwrites: true)) == .cannotCreate)
        _ = try ChildProcess.run(["ln", "-s", "nothing", path("dangling.qcow2").string])
        #expect(status(target("dangling.qcow2")) == .cannotCreate)
        _ = try ChildProcess.run(["ln", "-s", "/dev/zero", path("device.qcow2").string])
        #expect(status(target("device.qcow2", overwrites: true)) == .cannotCreate)
    }

    @Test func anExistingFileStays() throws {
        let image = Array("QFI".utf8) + [0xFB] + [UInt8](repeating: 0, count: 1020)
        try Files.write(image, to: path("old.qcow2"))
        #expect(status(target("old.qcow2")) == .cannotCreate)
        #expect(status(target("old.qcow2", overwrites: true)) == .done)
        #expect(status(target("old.qcow2", .vmdk, overwrites: true)) == .refused)
        #expect(status(target("old.qcow2", .raw, overwrites: true)) == .refused)
        try Files.write([], to: path("empty.vdi"))
        #expect(status(target("empty.vdi", .vdi)) == .cannotCreate)
        #expect(status(target("empty.vdi", .vdi, overwrites: true)) == .done)
    }

    /// The only copy of a disk: never, whatever the command line says.
    @Test(arguments: ["laptop.img.zst", "laptop.img", "laptop.qcow2"]) func anImageIsNeverReplaced(name: String) throws
    {
        try Files.write([0x28, 0xB5, 0x2F, 0xFD] + [UInt8](repeating: 1, count: 1020), to: path(name))
        for format in ExportFormat.allCases {
            #expect(status(target(name, format, overwrites: true)) == .refused)
            #expect(status(target(name, format)) == .cannotCreate)
        }
    }

    /// A raw disk has no mark: what is no disk that is known stays.
    @Test func aFileThatMayBeAnythingIsNoRawDisk() throws {
        let notes = Array("only notes\n".utf8)
        for contents in [notes, Array(repeatElement(notes, count: 512).joined())] {
            try Files.write(contents, to: path("notes.img"))
            let error = #expect(throws: JobFailure.self) { try target("notes.img", .raw, overwrites: true).refuse() }
            #expect(error?.status == .refused && error?.message.contains("holds no disk") == true)
            #expect(status(target("notes.img", .raw)) == .cannotCreate)
        }
        let old = path("old.img")
        try Files.write([UInt8](repeating: 0, count: 4 << 20), to: old)
        #expect(status(target("old.img", .raw, overwrites: true)) == .done)
        let made = try ChildProcess.run(["sfdisk", "-q", old.string], input: Array("label: dos\nstart=2048\n".utf8))
        try #require(made.succeeded, "\(made.lastWords)")
        #expect(status(target("old.img", .raw, overwrites: true)) == .done)
    }

    @Test func aFileInUseStays() throws {
        let image = Array("QFI".utf8) + [0xFB] + [UInt8](repeating: 0, count: 1020)
        try Files.write(image, to: path("machine.qcow2"))
        let machine = try OwnedDescriptor.open(path("machine.qcow2"), .readWrite)
        #expect(try FileLock.take(machine.raw, forWriting: false, start: 101, byteCount: 1) == .granted)
        let error = #expect(throws: JobFailure.self) { try target("machine.qcow2", overwrites: true).refuse() }
        #expect(error?.status == .refused && error?.message.contains("virtual machine") == true)
        try machine.close()
    }

    @Test func theSourceIsNoTarget() throws {
        try Files.write([UInt8](repeating: 0, count: 4096), to: path("disk.img"))
        _ = try ChildProcess.run(["ln", path("disk.img").string, path("same.img").string])
        for name in ["disk.img", "same.img"] {
            let error = #expect(throws: JobFailure.self) {
                try target(name, .raw, overwrites: true).refuse(source: path("disk.img").string)
            }
            #expect(error?.status == .refused)
        }
        try target("other.img", .raw).refuse(source: path("disk.img").string)
        try target("other.img", .raw).refuse(source: path("missing.img").string)
    }

    @Test(arguments: [
        "qemu-img: error while writing at byte 0: No space left on device",
        "could not write 1 MiB at byte 0 of x: there is no space left (ENOSPC)",
    ]) func aFullFolderIsNamed(message: String) {
        let failure = target("new.qcow2").explained(JobFailure(.ioError, message), neededByteCount: 5 << 30)
        #expect(failure.status == .cannotCreate)
        #expect(failure.message.contains(scratch.path.string) && failure.message.contains("5 GiB"))
        let other = JobFailure(.ioError, "qemu-img: Input/output error")
        #expect(target("new.qcow2").explained(other, neededByteCount: 1) == other)
    }
}
