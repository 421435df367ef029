// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import LinuxSystem
import SystemAccess

@testable import Customization

/// A made-up Debian disk: ESP, ext4 root, swap.
enum IdentityFixture {
    static let root = "5eed0003-0000-4000-8000-000000000003"
    static let swap = "5eed0004-0000-4000-8000-000000000004"
    static let esp = "5EED-0002"
    static let machineID = "0123456789abcdef0123456789abcdef"
    static let mebibyte: UInt64 = 1 << 20

    static func volume(
        _ number: Int, _ kind: FilesystemInfo.Kind, _ name: String, _ uuid: String?, type: String
    ) -> BootVolume {
        let start = UInt64(number) * 100 * mebibyte
        return BootVolume(
            number: number, range: start..<start + 99 * mebibyte, typeGUID: GUID(type) ?? .zero, guid: .zero,
            partUUID: "p\(number)", kind: kind, kindName: name, uuid: uuid)
    }

    static let volumes = [
        volume(2, .fat32, "vfat", esp, type: PartitionType.efiSystem),
        volume(3, .ext4, "ext4", root, type: PartitionType.linuxFilesystem),
        volume(4, .swap, "swap", swap, type: PartitionType.linuxSwap),
    ]

    static let fstab = """
        UUID=\(root) / ext4 errors=remount-ro 0 1
        UUID=\(esp) /boot/efi vfat umask=0077 0 1
        UUID=\(swap) none swap sw 0 0

        """

    /// A system whose programs run, with everything that needs no further file.
    static func survey(_ texts: [String: String] = [:], volumes: [BootVolume] = volumes) -> IdentitySurvey {
        let resolver = FstabResolver(volumes: volumes, rootPartition: 3)
        let system = InstalledSystem(
            rootPartition: 3, name: "Debian of a test", identifier: "debian",
            fstab: resolver.resolve(Fstab(fstab).entries),
            kernels: [.init(name: "vmlinuz-6.1", initramfs: "initrd.img-6.1")])
        var survey = IdentitySurvey(
            disk: DiskIdentity(path: "/dev/sda", kernelName: "sda", transport: "sata"), volumes: volumes,
            system: system)
        survey.esp = 2
        survey.mounts = SystemMounts(of: system, volumes: volumes, esp: 2)
        survey.tools = ["ssh-keygen", "update-initramfs", "grub-install"]
        survey.ownTools = ["e2fsck", "tune2fs", "xfs_db", "btrfstune", "cryptsetup", "lvm"]
        for (path, text) in ["/etc/fstab": fstab].merging(texts, uniquingKeysWith: { $1 }) {
            survey.texts.append(.init(path, Array(text.utf8)))
            survey.kinds[path] = .file
        }
        survey.texts.sort { $0.path < $1.path }
        return survey
    }

    static func plan(_ survey: IdentitySurvey, _ request: String) throws -> IdentityPlan {
        Customization.plan(survey, try IdentityRequest(parsing: request))
    }
}

extension IdentityPlan {
    /// The new contents of a file.
    func written(_ path: String) -> String? {
        steps.lazy.compactMap { step in
            guard case .writeFile(let contents) = step.verb, contents.path == path else { return nil }
            return String(decoding: contents.to, as: UTF8.self)
        }.first
    }

    /// The files whose identifiers are replaced.
    var followed: [String] {
        steps.compactMap { step in
            if case .replaceIdentifiers(let path) = step.verb { return path }
            return nil
        }
    }

    /// The commands of the system's programs.
    var commands: [[String]] {
        steps.compactMap { step in
            if case .runTool(let tool) = step.verb { return tool.command }
            return nil
        }
    }

    /// The removed files.
    var removed: [String] {
        steps.flatMap { step -> [String] in
            if case .removeFiles(let paths) = step.verb { return paths }
            return []
        }
    }
}
