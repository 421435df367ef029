// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// Files that exports and mounts make.
@Suite struct ExportFileTests {
    private let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    private func path(_ name: String) -> FilePath { scratch.path.appending(name) }

    private static let descriptor = Array("version=1\nRW 8 SPARSE \".x.partial\"\n#end\n".utf8)

    @Test func aDescriptorNamesItsFile() {
        let text = Self.descriptor + [UInt8](repeating: 0, count: 60)
        let changed = VMDKDescriptor.renamed(text, from: ".x.partial", to: "a longer name.vmdk")
        #expect(changed?.count == text.count)
        let wanted = Array("version=1\nRW 8 SPARSE \"a longer name.vmdk\"\n#end\n\0".utf8)
        #expect(changed?.starts(with: wanted) == true)
    }

    @Test func anotherDescriptorStays() {
        let text = Self.descriptor + [UInt8](repeating: 0, count: 4)
        #expect(VMDKDescriptor.renamed(text, from: "other", to: "a") == nil)
        #expect(VMDKDescriptor.renamed(text, from: ".x.partial", to: "far too long for its space") == nil)
        #expect(VMDKDescriptor.renamed(text, from: ".x.partial", to: "a\"b") == nil)
        #expect(VMDKDescriptor.renamed(text, from: ".x.partial", to: "a\nb") == nil)
        #expect(VMDKDescriptor.renamed(Self.descriptor + Self.descriptor, from: ".x.partial", to: "a") == nil)
        #expect(VMDKDescriptor.renamed([], from: ".x.partial", to: "a") == nil)
    }

    @Test func aVMDKOfQEMUIsRenamed() throws {
        let file = path(".disk.vmdk.partial-x")
        let made = try ChildProcess.run(
            ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", file.string, "64M"])
        try #require(made.succeeded, "\(made.lastWords)")
        try VMDKDescriptor.rename(file, from: ".disk.vmdk.partial-x", to: "disk.vmdk")
        let bytes = try Files.read(file)
        #expect(String(decoding: bytes, as: UTF8.self).contains("SPARSE \"disk.vmdk\"\n"))
        #expect(!String(decoding: bytes, as: UTF8.self).contains("partial"))
        let checked = try ChildProcess.run(["qemu-img", "check", "-q", "-f", "vmdk", file.string])
        #expect(checked.succeeded, "\(checked.lastWords)")
        try Files.write([UInt8](repeating: 0, count: 1024), to: path("zeros"))
        #expect(throws: SystemCallError.self) { try VMDKDescriptor.rename(path("zeros"), from: "a", to: "b") }
    }

    private func mountPoint(_ name: String) -> JobModel.ExitStatus {
        do { _ = try MountPoint(in: path(name).string) } catch {
            return JobFailure(error, cancellation: Cancellation()).status
        }
        return .done
    }

    @Test func aMountTakesAnEmptyFolder() throws {
        try Files.makeFolders(path("m"))
        do {
            let point = try MountPoint(in: path("m").string)
            #expect(Files.names(in: path("m")) == ["disk.raw"] && !point.isMounted)
            withExtendedLifetime(point) {}
        }
        #expect(Files.names(in: path("m")).isEmpty)
        #expect(mountPoint("none") == .notFound)
        try Files.write([], to: path("file"))
        #expect(mountPoint("file") == .usage)
        try Files.write([], to: path("m/other"))
        #expect(mountPoint("m") == .refused && Files.names(in: path("m")) == ["other"])
    }

    @Test func mountsThatStartAtOnceDoNotShareAFile() throws {
        try Files.makeFolders(path("m"))
        do {
            let first = try MountPoint(in: path("m").string)
            #expect(mountPoint("m") == .refused)
            // The refused one leaves it.
            #expect(Files.exists(first.path))
        }
        #expect(mountPoint("m") == .done && Files.names(in: path("m")).isEmpty)
    }

    /// A killed mount leaves an empty file; any other file is never covered.
    @Test func aForeignFileIsNotCovered() throws {
        try Files.makeFolders(path("m"))
        try Files.write([], to: path("m/disk.raw"))
        #expect(mountPoint("m") == .done)
        try Files.write([1], to: path("m/disk.raw"))
        #expect(mountPoint("m") == .refused)
        #expect(try Files.read(path("m/disk.raw")) == [1])
        try Files.remove(path("m/disk.raw"))
        _ = try ChildProcess.run(["ln", "-s", "/dev/zero", path("m/disk.raw").string])
        #expect(mountPoint("m") == .refused)
    }
}
