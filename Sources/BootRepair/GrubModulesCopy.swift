// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A copy of an installed system's GRUB modules, for grub-mkimage of this machine: that program would follow the tree's
/// links out of it. Removed with this object.
final class GrubModulesCopy {
    /// Where the copies are.
    let path: FilePath
    private var names: [String] = []

    private static let largestFile = 4 << 20
    private static let largestSum = 64 << 20

    /// Copies the modules and images that lie in a folder of the tree; what is no file is left out.
    init(of folder: String, in tree: borrowing AnchoredFolder) throws(SystemCallError) {
        path = try Files.makeTemporaryFolder("reforge-grub")
        var sum = 0
        for name in tree.names(in: folder)
        where name.hasSuffix(".mod") || name.hasSuffix(".img") || name == "moddep.lst" {
            guard let bytes = try? tree.read("\(folder)/\(name)", limit: Self.largestFile) else { continue }
            sum += bytes.count
            guard sum <= Self.largestSum else {
                throw SystemCallError("copy", "the GRUB modules in \(folder)", .fileTooLarge)
            }
            names.append(name)
            try Files.write(bytes, to: path.appending(name))
        }
    }

    deinit {
        for name in names { try? Files.remove(path.appending(name)) }
        try? Files.removeFolder(path)
    }
}
