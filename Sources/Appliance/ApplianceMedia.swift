// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// The kernel and the initramfs of the medium, which the appliance boots.
package struct ApplianceMedia: Equatable, Sendable {
    package let kernel: FilePath
    package let initramfs: FilePath

    /// The environment variable that names the folder if `--media` does not.
    package static let variable = "REFORGE_MEDIA"
    package static let installed: FilePath = "/usr/share/reforge"

    package init(kernel: FilePath, initramfs: FilePath) {
        self.kernel = kernel
        self.initramfs = initramfs
    }

    /// Finds the files that `Scripts/build-media` made.
    /// - Parameter folder: the folder given by the user.
    package static func find(_ folder: String?) throws(ApplianceError) -> ApplianceMedia {
        let named = folder ?? SystemFacts.environment(variable).flatMap { $0.isEmpty ? nil : $0 }
        if let named {
            guard let media = ApplianceMedia(in: FilePath(named)) else {
                throw .noMedium(
                    "\(named) does not hold vmlinuz and initramfs.img: `Scripts/build-media \(named)` makes them")
            }
            return media
        }
        let beside = Files.realPath("/proc/self/exe")?.removingLastComponent().appending("media")
        for folder in [beside, installed].compactMap({ $0 }) {
            if let media = ApplianceMedia(in: folder) { return media }
        }
        let places = [beside?.string, installed.string].compactMap { $0 }.joined(separator: " or ")
        throw .noMedium(
            "files of an image are read by the recovery medium in a virtual machine, and there is no medium (vmlinuz, initramfs.img) in \(places). Build one (`Scripts/build-media DIR`), and name its folder with --media DIR or $\(variable)"
        )
    }

    private init?(in folder: FilePath) {
        (kernel, initramfs) = (folder.appending("vmlinuz"), folder.appending("initramfs.img"))
        for path in [kernel, initramfs] {
            guard let status = try? Files.status(path), status.isFile, status.byteCount > 0 else { return nil }
        }
    }
}
