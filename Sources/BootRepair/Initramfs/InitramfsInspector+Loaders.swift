// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import Filesystems
import LinuxSystem
import SystemAccess

/// The initramfs of what a loader starts from the EFI system partition or the extended boot partition.
extension InitramfsInspector {
    /// The kernel of an entry, with all of its initramfs files.
    /// - Returns: `nil` if its files are not on that partition, or are those of /boot that are judged already.
    func kernel(
        of entry: LoaderEntry, on partition: BootPartition, _ kernels: OwnKernels, _ system: InstalledSystem,
        _ anchor: borrowing AnchoredFolder
    ) -> InstalledSystem.Kernel? {
        guard let last = entry.initramfs.last, entry.missing.isEmpty, let name = entry.kernel else { return nil }
        let isBoot = system.mountPoint(ofPartition: partition.volume.number) == "/boot"
        let parts = last.split(separator: "/").map(String.init)
        if isBoot, parts.count == 1, system.kernels.contains(where: { [$0.initramfs, $0.fallback].contains(parts[0]) })
        {
            return nil
        }
        return kernel(name, initramfs: last, version: kernels.knownVersion(of: entry), of: system, in: anchor) {
            () throws(BootFileError) in
            var whole = Initramfs()
            for path in entry.initramfs.prefix(8) { whole.merge(try Self.read(try Self.file(path, partition))) }
            return whole
        }
    }

    /// The kernel of a unified kernel image.
    func kernel(
        of image: UnifiedKernel, on partition: BootPartition, _ kernels: OwnKernels, _ system: InstalledSystem,
        _ anchor: borrowing AnchoredFolder
    ) -> InstalledSystem.Kernel? {
        let path = image.slashedPath
        let version = image.version.flatMap { kernels.versions.contains($0) ? $0 : nil }
        return kernel(image.path, initramfs: path, version: version, of: system, in: anchor) {
            () throws(BootFileError) in
            let file: FATFile
            let head: [UInt8]
            do throws(FilesystemError) {
                file = try FATFile(path, in: partition.fat)
                head = try file.read(at: 0, count: PEImage.headByteCount)
            } catch { throw .unreadable(why: "\(error)") }
            let parts = try PEImage(head: head, byteCount: Int(clamping: file.byteCount))
            guard let section = parts.section(".initrd") else { throw .damaged(what: "it holds no initramfs") }
            return try Self.read(FATFileStream(file, section.range))
        }
    }

    private static func file(_ path: String, _ partition: BootPartition) throws(BootFileError) -> FATFileStream {
        do throws(FilesystemError) { return FATFileStream(try FATFile(path, in: partition.fat)) } catch {
            throw .unreadable(why: "\(error)")
        }
    }
}

extension UnifiedKernel {
    /// Its path with slashes, as in a mounted partition.
    var slashedPath: String { path.split(separator: "\\").reduce("") { "\($0)/\($1)" } }
}
