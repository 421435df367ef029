// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Operations

/// T0: what `reforge files` refuses before it starts a machine, or replaces a file.
struct FilesOperationTests {
    private static func get(_ paths: String...) throws {
        try FilesOperation.check(.get(paths: paths, destination: "out", overwrites: false))
    }

    /// In an archive, the second of two equal names would replace the first.
    @Test func pathsWhoseFilesWouldMixAreRefused() throws {
        try Self.get("1:/etc/passwd", "1:/etc/group", "/home")
        try Self.get("1:/")
        #expect(throws: JobFailure.self) { try Self.get("1:/etc/passwd", "2:/etc/passwd/") }
        #expect(throws: JobFailure.self) { try Self.get("1:/", "2:/") }
        #expect(throws: JobFailure.self) { try Self.get("1:/etc", "2:/") }
        #expect(throws: JobFailure.self) { try Self.get("etc") }
    }

    /// `files tar NEW.tar 1:/ ONLY-COPY.img.zst --overwrite` must not replace the image.
    @Test func onlyArchivesAreReplaced() throws {
        let scratch = try ScratchFolder()
        func path(_ name: String) -> String { scratch.path.appending(name).string }
        var archive = [UInt8](repeating: 0, count: 1024)
        archive.replaceSubrange(257..<262, with: Array("ustar".utf8))
        for (name, bytes) in [
            ("tar", archive), ("empty", []), ("image", Array("RFRG".utf8)), ("zeros", .init(repeating: 0, count: 512)),
        ] { try Files.write(bytes, to: scratch.path.appending(name)) }
        try Files.makeLink(scratch.path.appending("link"), to: "tar")
        for name in ["tar", "empty", "none"] { try FilesOperation.checkReplaced(path(name), true) }
        for name in ["image", "zeros", "link"] {
            #expect(throws: JobFailure.self, "\(name)") { try FilesOperation.checkReplaced(path(name), true) }
        }
        #expect(throws: JobFailure.self) { try FilesOperation.checkReplaced("/dev/null", true) }
        #expect(throws: JobFailure.self) { try FilesOperation.checkReplaced(path("tar"), false) }
    }
}
