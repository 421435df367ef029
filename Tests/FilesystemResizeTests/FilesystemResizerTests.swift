// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage
import Testing

@testable import FilesystemResize

/// T4: the real tools, on loop devices over an image file. The contents of a filesystem are compared before and after.
@Suite(.enabled(if: Ability.loopDevices, "needs root and loop devices"), .serialized)
struct FilesystemResizerTests {
    @Test(arguments: Recipe.growing)
    func growsStepByStep(_ recipe: Recipe) throws {
        let bench = try ResizeBench(recipe)
        let before = try bench.contents(recipe.steps[0])
        #expect(recipe.mountType == nil || before.split(separator: "\n").count > 50)
        for step in recipe.steps.dropFirst() {
            var said: [String] = []
            let outcome = try FilesystemResizer.grow(recipe.info, on: bench.place(step)) { said.append($0) }
            let room = step * ResizeBench.mebibyte
            #expect(outcome.byteCount <= room && outcome.byteCount + recipe.slack > room, "\(outcome)")
            #expect(outcome.remarks.isEmpty == (recipe.kind != .ntfs))
            #expect(said.count > 1)
            try bench.check(step)
            // Again: nothing to do, and no error.
            #expect(
                try FilesystemResizer.grow(recipe.info, on: bench.place(step)).byteCount == outcome.byteCount)
            #expect(try bench.contents(step) == before)
        }
        #expect(try bench.leftovers() == [])
    }

    @Test(arguments: Recipe.shrinking)
    func shrinks(_ recipe: Recipe) throws {
        let full = recipe.steps.max() ?? 0
        var bench = try ResizeBench(recipe, roomMiB: full)
        try FilesystemResizer.grow(recipe.info, on: bench.place(full))
        if recipe.mountType != nil {
            // Data at the far end, so that the tool must move some.
            try bench.mounted(
                full,
                "for i in $(seq 40); do head -c 1500000 /dev/urandom >\"far $i\"; done; rm -f far*[1-7]; sync"
            )
        }
        let before = try bench.contents(full)
        let wish = (recipe.steps[0] + 20) * ResizeBench.mebibyte + 12_800
        let outcome = try FilesystemResizer.shrink(recipe.info, to: wish, on: bench.place(full))
        #expect(outcome.byteCount <= wish && outcome.byteCount + recipe.slack * 2 > wish, "\(outcome)")
        try bench.drop(from: wish, to: full)
        // At its new place it is whole, with the same contents.
        let place = recipe.steps[0] + 20
        bench.tail = 12_800
        try bench.check(place)
        #expect(try bench.contents(place) == before)
        // Nothing to do, and never larger.
        bench.tail = 0
        let again = try FilesystemResizer.shrink(recipe.info, to: wish + 5 << 20, on: bench.place(full))
        #expect(again.byteCount == outcome.byteCount)
        #expect(try bench.leftovers() == [])
    }

    @Test(arguments: Recipe.shrinking)
    func refusesWhatIsTooSmall(_ recipe: Recipe) throws {
        var bench = try ResizeBench(recipe)
        let before = try bench.contents(recipe.steps[0])
        let wish: UInt64 = recipe.kind == .swap ? 4096 * 9 : 2 << 20
        do throws(ResizeError) {
            _ = try FilesystemResizer.shrink(recipe.info, to: wish, on: bench.place(recipe.steps[0]))
            Issue.record("it shrank")
        } catch {
            guard case .tooSmall(wish, let least) = error.problem else {
                Issue.record("\(error)")
                return
            }
            #expect(error.state == .asBefore)
            #expect(least > wish)
            #expect("\(error)".contains("the least is \(least) bytes"))
            // The size in the message works.
            let outcome = try FilesystemResizer.shrink(recipe.info, to: least, on: bench.place(recipe.steps[0]))
            #expect(outcome.byteCount <= least)
            bench.tail = least
        }
        try bench.check(0)
        #expect(try bench.contents(0) == before)
        #expect(try bench.leftovers() == [])
    }

    @Test(arguments: [Recipe.ext4, .ntfs, .f2fs, .swap].filter(\.isPossible))
    func worksOn4KiBSectors(_ recipe: Recipe) throws {
        let bench = try ResizeBench(recipe, sectorSize: 4096)
        let before = try bench.contents(recipe.steps[0])
        let step = recipe.steps[1]
        try FilesystemResizer.grow(recipe.info, on: bench.place(step))
        try bench.check(step)
        #expect(try bench.contents(step) == before)
    }

    @Test func worksOnADevice() throws {
        let bench = try ResizeBench(.ext4)
        try bench.onLoop(100) { node in
            let outcome = try FilesystemResizer.grow(Recipe.ext4.info, on: .device(FilePath(node)))
            #expect(outcome.byteCount == 100 << 20)
        }
        try bench.check(100)
        // Refused while it is mounted.
        let folder = try Files.makeTemporaryFolder("reforge-resize-test")
        defer { try? Files.removeFolder(folder) }
        try bench.onLoop(100) { node in
            let mount = try Mount(node, on: folder, type: "ext4", options: .readOnly)
            #expect(throws: ResizeError.self) {
                try FilesystemResizer.shrink(Recipe.ext4.info, to: 60 << 20, on: .device(FilePath(node)))
            }
            try mount.unmount()
        }
    }

    /// Each with bytes overwritten where its tool, or the kernel, must notice it.
    @Test(arguments: [Recipe.ext4, .ntfs, .xfs, .btrfs, .f2fs].filter(\.isPossible))
    func damageIsAnErrorAndTheSizeStays(_ recipe: Recipe) throws {
        let bench = try ResizeBench(recipe)
        let disk = try BlockDevice(opening: bench.image, .exclusiveWrite)
        func number(_ offset: UInt64, _ count: Int) throws -> UInt64 {
            let fields = SuperblockFields(
                bytes: try disk.readBytes(at: bench.range(1).lowerBound + offset, count: count))
            return fields.little(0, byteCount: count)
        }
        let spoilt: [UInt64]
        switch recipe.kind {
        // The first inode table, by the group descriptor in block 1.
        case .ext4: spoilt = [try number(4096 + 8, 4) * 4096]
        // Record 6 of the MFT ($Bitmap), by the boot sector's mft_lcn.
        case .ntfs: spoilt = [try number(48, 8) * 4096 + 6 * 1024]
        // The AGF, AGI and AGFL.
        case .xfs: spoilt = [512]
        // Every copy of the root tree's and chunk tree's blocks, by their bytenr in all mirrors: the system chunk of a
        // fresh filesystem is at 5 MiB, its metadata behind it.
        case .btrfs: spoilt = (5..<80).map { $0 << 20 }.filter { $0 != 64 << 20 }
        // Both checkpoint packs, by cp_blkaddr.
        default: spoilt = [try number(1024 + 80, 4) * 4096, try number(1024 + 80, 4) * 4096 + 512 * 4096]
        }
        for offset in spoilt {
            try disk.writeBytes([UInt8](repeating: 0x5A, count: 8192), at: ResizeBench.start + offset)
            if recipe.kind == .btrfs {
                try disk.writeBytes([UInt8](repeating: 0x5A, count: 65536), at: ResizeBench.start + offset)
            }
        }
        try disk.flush()
        let tool = try #require(ResizeTools.tool(for: recipe.info))
        let slice = try #require(BlockSlice(disk, range: bench.range(recipe.steps[0])))
        let before = try tool.byteCount(on: slice)
        do throws(ResizeError) {
            _ = try FilesystemResizer.grow(recipe.info, on: bench.place(recipe.steps[1]))
            Issue.record("it grew")
        } catch {
            switch error.problem {
            case .checkFailed, .mountFailed: #expect("\(error)".contains("keeps its old size"))
            case .resizeFailed: #expect([.asBefore, .inDoubt(check: tool.checkCommand)].contains(error.state))
            default: Issue.record("\(error)")
            }
            print("damaged \(recipe.name): \(error)")
        }
        #expect(try tool.byteCount(on: slice) == before)
        #expect(try bench.leftovers() == [])
    }

    /// `mounted` releases everything, even where its body fails.
    @Test(.enabled(if: Recipe.ext4.isPossible)) func mountsGoAwayWithAFailure() throws {
        let bench = try ResizeBench(.ext4)
        try bench.onLoop(40) { node in
            let job = ResizeJob(
                node: node, filesystem: Recipe.ext4.info, package: "e2fsprogs", checkCommand: "", log: { _ in })
            var place = ""
            #expect(throws: ResizeError.self) {
                try job.mounted(type: "ext4", data: "") { mountPoint throws(ResizeError) in
                    place = mountPoint
                    _ = try job.run(["no-such-program-of-ours"])
                }
            }
            #expect(!place.isEmpty && !Files.exists(FilePath(place)))
            #expect(!MountEntry.current().contains { $0.mountPoint == place })
        }
        #expect(try bench.leftovers() == [])
    }

    @Test func aMissingToolNamesItsPackage() {
        let job = ResizeJob(
            node: "/dev/null", filesystem: Recipe.xfs.info, package: "xfsprogs", checkCommand: "", log: { _ in })
        do throws(ResizeError) {
            _ = try job.run(["no-such-program-of-ours"])
            Issue.record("it ran")
        } catch {
            #expect(
                "\(error)"
                    == "`no-such-program-of-ours` is not installed (Debian package xfsprogs). Nothing was resized: "
                    + "the filesystem keeps its old size")
        }
    }

    @Test func whatCannotBeResizedIsRefused() throws {
        let folder = try Files.makeTemporaryFolder("reforge-resize-test")
        let image = folder.appending("empty")
        defer {
            try? Files.remove(image)
            try? Files.removeFolder(folder)
        }
        try Files.write([UInt8](repeating: 0, count: 1 << 20), to: image)
        let place = ResizePlace.part(of: image, range: 0..<1 << 20, sectorSize: 512)
        func reason(_ body: () throws(ResizeError) -> FilesystemResizer.Outcome) -> String {
            do throws(ResizeError) {
                _ = try body()
                return "nothing"
            } catch {
                #expect(error.state == .asBefore)
                return "\(error.problem)"
            }
        }
        let fat = FilesystemInfo(kind: .fat32, kindName: "vfat", mapSource: .allocationStructures)
        #expect(reason { () throws(ResizeError) in try FilesystemResizer.grow(fat, on: place) } == "FAT keeps its size")
        #expect(
            reason { () throws(ResizeError) in try FilesystemResizer.shrink(Recipe.xfs.info, to: 1 << 30, on: place) }
                == "XFS cannot be made smaller")
        for recipe in [Recipe.ext4, .ntfs, .xfs, .f2fs, .swap] {
            #expect(
                reason { () throws(ResizeError) in try FilesystemResizer.grow(recipe.info, on: place) }
                    == "there is no \(recipe.kind.rawValue) in its place")
        }
        let beyond = ResizePlace.part(of: image, range: 0..<2 << 20, sectorSize: 512)
        #expect(
            reason { () throws(ResizeError) in try FilesystemResizer.grow(Recipe.ext4.info, on: beyond) }
                == "\(image) ends before the place of the filesystem does")
        let missing = ResizePlace.part(of: "/nonexistent", range: 0..<1, sectorSize: 512)
        #expect(throws: ResizeError.self) { try FilesystemResizer.grow(Recipe.ext4.info, on: missing) }
    }
}
