// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import Codecs
import DiskModel
import ImageModel
import JobModel
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem
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

    /// `path` of JSON shows control characters and backslashes as digits: a program needs the bytes.
    @Test(arguments: [("a", nil), ("é", nil), ("a\\b", "615c62"), ("a\nb", "610a62")])
    func bytesOfPathsAreGivenWhereTheTextDiffers(name: String, bytes: String?) {
        let status = TreeNode.Status(
            kind: .file, permissions: 0o644, owner: 0, group: 0, byteCount: 0, allocatedByteCount: 0, modified: 0,
            modifiedNanoseconds: 0, inode: 1, device: 1, linkCount: 1, major: 0, minor: 0)
        let path = Array(name.utf8)
        #expect(
            FilesReport.Found(AgentEntry(status, kind: .file, path: path), prefix: "", path: path).pathBytes == bytes)
    }

    /// The machine applies no journal, and files can be older than a user expects.
    @Test func uncleanVolumesAreKnownInAnyDepth() {
        func filesystem(_ uuid: String, _ isClean: Bool?, _ inner: [FilesystemInfo.InnerVolume]? = nil)
            -> FilesystemInfo
        {
            FilesystemInfo(
                kind: .ext4, kindName: "ext4", uuid: uuid, isClean: isClean, mapSource: .whole, inner: inner)
        }
        func region(_ partition: Int?, _ filesystem: FilesystemInfo) -> Manifest.Region {
            Manifest.Region(
                kind: .partition, range: 0..<1, partition: partition, filesystem: filesystem, usedByteCount: 1)
        }
        let volumes = [("vg/a", true), ("vg/b", false)].map { name, isClean in
            FilesystemInfo.InnerVolume(name: name, byteCount: 1, filesystem: filesystem("u-\(name)", isClean))
        }
        let regions = [
            region(1, filesystem("u1", true)), region(2, filesystem("u2", false)), region(nil, filesystem("u0", nil)),
            region(3, filesystem("u3", nil, volumes)),
        ]
        #expect(OpenedAppliance.unclean(regions) == ["2", "u2", "vg/b", "u-vg/b"])
    }

    @Test func holesAndZerosHaveOneHash() {
        func hash(_ parts: [(UInt64, [UInt8])], _ byteCount: UInt64) -> ContentHash {
            var hash = SparseHash()
            for (offset, bytes) in parts { hash.add(bytes, at: offset) }
            return hash.finish(byteCount: byteCount)
        }
        let noise = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let zeros = [UInt8](repeating: 0, count: 100_000)
        let whole = hash([(100_000, noise)], 400_000)
        #expect(hash([(0, zeros + noise + zeros)], 400_000) == whole)
        #expect(hash([(100_000, Array(noise[..<7])), (100_007, Array(noise[7...]))], 400_000) == whole)
        #expect(hash([(100_001, noise)], 400_000) != whole && hash([(100_000, noise)], 400_001) != whole)
        #expect(hash([(1 << 30, noise)], 1 << 40) != hash([(1 << 31, noise)], 1 << 40))
        // A loop over this hole would not end.
        #expect(hash([], UInt64(Int64.max)) == hash([], UInt64(Int64.max)))
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
