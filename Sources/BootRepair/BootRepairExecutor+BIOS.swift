// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// A write to the BIOS boot chain with the files that it needs, read while the system was mounted.
struct ReadyBIOSBoot {
    let write: BIOSBootWrite
    /// core.img's bytes; `nil` where it lies on the disk.
    let core: [UInt8]?
    /// boot.img's bytes; `nil` where the code that is there stays.
    let bootImage: [UInt8]?
}

extension BootRepairExecutor {
    /// Reads (or makes) what a write needs.
    func ready(_ write: BIOSBootWrite, _ tree: SystemTree?) throws(SystemCallError) -> ReadyBIOSBoot {
        func file(_ path: String) throws(SystemCallError) -> [UInt8] {
            guard let tree else { throw SystemCallError("read", path, .noSuchFileOrDirectory) }
            return try tree.anchored().read(path)
        }
        let core: [UInt8]?
        switch write.core {
        case .onDisk: core = nil
        case .file(let path): core = try file(path)
        case .made(let folder, let prefix, let modules):
            guard let folder else {
                core = try makeCore(FilePath(OwnGrub.folder), prefix, modules)
                break
            }
            guard let tree else { throw SystemCallError("read", folder, .noSuchFileOrDirectory) }
            let copy = try GrubModulesCopy(of: folder, in: try tree.anchored())
            core = try withExtendedLifetime(copy) { () throws(SystemCallError) in
                try makeCore(copy.path, prefix, modules)
            }
        }
        let bootImage: [UInt8]?
        switch write.bootImage {
        case .kept: bootImage = nil
        case .file(let path): bootImage = try file(path)
        case .medium: bootImage = try Files.read(FilePath("\(OwnGrub.folder)/boot.img"))
        }
        return ReadyBIOSBoot(write: write, core: core, bootImage: bootImage)
    }

    private func makeCore(
        _ source: FilePath, _ prefix: String, _ modules: [String]
    ) throws(SystemCallError) -> [UInt8] {
        let folder = try Files.makeTemporaryFolder("reforge-core")
        let image = folder.appending("core.img")
        defer {
            try? Files.remove(image)
            try? Files.removeFolder(folder)
        }
        let output = try ChildProcess.run(
            ["grub-mkimage", "-O", "i386-pc", "-d", source.string, "-p", prefix, "-o", image.string] + modules)
        guard output.succeeded else {
            throw SystemCallError("make", "core.img (grub-mkimage: \(output.lastWords))", .invalidArgument)
        }
        return try Files.read(image)
    }

    /// Writes core.img first and block 0 last: block 0 never points to what is not there.
    mutating func put(_ ready: ReadyBIOSBoot, _ log: (String) -> Void) {
        let write = ready.write
        do {
            let target = try BlockDevice(
                opening: disk.path, .exclusiveWrite, sectorSize: disk.logicalSectorSize)
            let start = write.coreSector
            let core: [UInt8]
            switch write.core {
            case .onDisk(let count):
                guard let following = UInt16(exactly: count - 1), start + count <= write.endSector else {
                    pending.append("core.img at sector \(start) does not fit its place")
                    return
                }
                core = GrubCoreImage.firstSector(
                    try target.readBytes(at: start * 512, count: 512), movedTo: start, followedBy: following)
            case .file, .made:
                guard let file = ready.core, let image = GrubCoreImage.readied(file, at: start) else {
                    pending.append("the core.img for block 0 is damaged")
                    return
                }
                core = image
            }
            guard UInt64(core.count / 512) <= write.endSector - start else {
                pending.append("core.img does not fit the place for it")
                return
            }
            let old = try target.readBytes(at: 0, count: 512)
            guard let block = GrubBootSector(old) else { return }
            let new: GrubBootSector
            if let bytes = ready.bootImage {
                guard let image = GrubBootSector(bytes), image.kind == .grub else {
                    pending.append("the boot.img for block 0 is not GRUB's")
                    return
                }
                new = block.withCode(of: image, coreSector: start)
            } else {
                new = block.lookingForCore(at: start)
            }
            try target.writeBytes(core, at: start * 512)
            try target.flush()
            try target.writeBytes(new.bytes, at: 0)
            try target.dropCache()
            outcome.changed.append("put the BIOS boot chain right: boot code → core.img at sector \(start)")
        } catch {
            pending.append("the BIOS boot chain could not be written: \(error)")
        }
    }

    /// Follows the chain once more after anything touched it.
    mutating func checkBIOS() {
        let touched = plan.steps.contains {
            switch $0 {
            case .writeBIOSBoot, .runGrubInstall(platform: "i386-pc", command: _, again: _, otherwise: _): true
            default: false
            }
        }
        guard touched else { return }
        do throws(BlockIOError) {
            try disk.dropCache()
            let survey = try BIOSBootReader.read(disk, volumes: plan.volumes)
            if survey.chain != .right {
                pending.append("the disk does not start by BIOS: \(survey.problem ?? "\(survey.chain)")")
            }
        } catch {
            pending.append("the BIOS boot chain could not be read back: \(error)")
        }
    }
}
