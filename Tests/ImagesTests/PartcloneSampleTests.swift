// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import DiskImages

/// Images of partclone itself, compared with what partclone restores from them.
@Suite(.enabled(if: PartcloneSamples.areThere, "needs partclone and the filesystems' tools"))
struct PartcloneSampleTests {
    /// What partclone restores from an image onto a file of zeros, and the length of the source device.
    private func restored(_ name: String, _ scratch: FilePath) throws -> [UInt8] {
        let folder = try PartcloneSamples.folder()
        let source = try Files.status(folder.appending(name.split(separator: ".")[0] + ".raw"))
        let target = scratch.appending("restored")
        try ToolFile.run(["truncate", "-s", "\(try #require(source).byteCount)", target.string])
        try ToolFile.run([
            "partclone.restore",
            // With groups of 7 blocks, partclone 0.3.23 writes behind its buffer if that does not hold whole groups.
            "-z", name.contains(".k7") ? "\(7 * 1024)" : "1048576", "-s", folder.appending(name).string, "-O",
            target.string, "-C", "-L",
            scratch.appending("log").string,
        ])
        return try Files.read(target, limit: 1 << 30)
    }

    @Test func everySampleIsReadAsPartcloneRestoresIt() throws {
        let folder = try PartcloneSamples.folder()
        for sample in try PartcloneSamples.all() {
            let scratch = try ScratchFolder()
            let bytes = try PartcloneSample.read(folder.appending(sample.name), step: 1 << 20)
            var expected = try restored(sample.plain, scratch.path)
            if sample.plain == "ntfs.ptcl" {
                // Not in the image: Reforge puts it back.
                expected.replaceSubrange(expected.count - 512..<expected.count, with: expected[..<512])
                let source = try Files.read(folder.appending("ntfs.raw"), limit: 1 << 30)
                #expect(Array(bytes.suffix(512)) == Array(source.suffix(512)))
            }
            #expect(bytes == expected, "\(sample.name)")
        }
    }

    @Test func anOldImageWithWideChecksumsIsNamed() throws {
        let folder = try PartcloneSamples.folder()
        #expect {
            try PartcloneSample.read(folder.appending("ext1k.v1wide"))
        } throws: { "\($0)".contains("64-bit") }
    }

    @Test func aSpooledDiskHoldsTheSame() throws {
        let folder = try PartcloneSamples.folder()
        let path = folder.appending("sda3.ext4-ptcl-img.zst")
        let scratch = try ScratchFolder()
        let format = PartcloneFile.format
        let contents = try ForeignContents(try format.open(path, try format.disks(path)[0]), Cancellation())
        let disk = try #require(
            try ForeignDiskFile(
                contents, unreadable: contents.unreadable, salvages: false, in: scratch.path, memoryReserve: 0,
                progress: { _ in }))
        #expect(try disk.readBytes(at: 0, count: Int(disk.byteCount)) == (try PartcloneSample.read(path)))
        #expect(disk.isRandomAccess)
        // Backwards, streamed.
        let last = try contents.readBytes(at: contents.byteCount - 4096, count: 4096)
        let first = try contents.readBytes(at: 0, count: 4096)
        #expect(first == (try disk.readBytes(at: 0, count: 4096)))
        #expect(last == (try disk.readBytes(at: contents.byteCount - 4096, count: 4096)))
    }

    @Test func piecesMustBeComplete() throws {
        let folder = try PartcloneSamples.folder()
        let names = Files.names(in: folder).filter { $0.hasPrefix("sda2.ext4-ptcl-img.gz.") }.sorted()
        try #require(names.count >= 4)
        func said(without missing: String, _ given: String) throws -> String {
            let scratch = try ScratchFolder()
            for name in names where name != missing {
                try ToolFile.run(["cp", folder.appending(name).string, scratch.path.appending(name).string])
            }
            do {
                _ = try PartcloneSample.read(scratch.path.appending(given))
                return "read"
            } catch { return "\(error)" }
        }
        #expect(try said(without: "", names[0]) == "read")
        let middle = try said(without: names[1], names[0])
        #expect(middle.contains(names[1]) && middle.contains("missing"), "\(middle)")
        let first = try said(without: names[0], names[1])
        #expect(first.contains(names[0]), "\(first)")
        let later = try said(without: "", names[1])
        #expect(later.contains("later piece") && later.contains(names[0]), "\(later)")
        // A missing last piece is a stream that ends too early.
        let last = try said(without: names[names.count - 1], names[0])
        #expect(last.contains("damaged") || last.contains("ends too early"), "\(last)")
    }

    /// Cut or with one flipped bit anywhere, an image is refused, or gives the same volume.
    @Test func damageIsNeverRead() throws {
        let folder = try PartcloneSamples.folder()
        var random = Sample.generator(7_001)
        let count = Sample.isFull ? 200 : 10
        let small = ["ext1k.ptcl", "ext1k.v1", "ext4.k7K.ptcl", "ext4.a0.ptcl", "sda3.ext4-ptcl-img.zst"]
        for sample in try PartcloneSamples.all()
        where !sample.name.hasSuffix(".aa")
            && (Sample.isFull || small.contains(sample.name) || sample.name.hasPrefix("ext1k.ptcl."))
        {
            let image = try Files.read(folder.appending(sample.name), limit: 1 << 30)
            let isChecked = !["ext4.a0.ptcl", "ext1k.v1", "ext1k.ptcl.lzma"].contains(sample.name)
            let expected = try PartcloneSample.read(folder.appending(sample.name), step: 1 << 20)
            let scratch = try ScratchFolder()
            let path = scratch.path.appending(sample.name)
            for index in 0..<2 * count {
                var damaged = image
                // Half of the places are in the header and the bitmap.
                let end = index % 4 < 2 ? min(image.count, 5000) : image.count
                let place = Int(random.next() % UInt64(end))
                if index % 2 == 0 {
                    damaged.removeSubrange(place...)
                } else {
                    damaged[place] ^= 1 << UInt8(random.next() % 8)
                }
                try? Files.remove(path)
                try Files.write(damaged, to: path)
                let read = try? PartcloneSample.read(path, step: 1 << 20)
                let what: Comment =
                    "\(sample.name), \(index % 2 == 0 ? "cut" : "flipped") at \(place), seed \(Sample.seed)"
                if index % 2 == 0 || isChecked {
                    #expect(read == nil || read == expected, what)
                } else {
                    // Without checksums a flipped bit shows only where it breaks the structure.
                    #expect(read == nil || read?.count == expected.count, what)
                }
            }
        }
    }
}
