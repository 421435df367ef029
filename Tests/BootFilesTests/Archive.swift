// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles

/// Makes newc cpio archives.
enum Archive {
    /// One entry of the format in Documentation/driver-api/early-userspace/buffer-format.rst.
    static func entry(_ name: String, _ contents: [UInt8] = [], mode: UInt32 = 0o100644) -> [UInt8] {
        var bytes = Array("070701".utf8)
        let nameBytes = Array(name.utf8) + [0]
        for field in [7, mode, 0, 0, 1, 0, UInt32(contents.count), 0, 0, 0, 0, UInt32(nameBytes.count), 0] {
            let digits = String(field, radix: 16)
            bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
        }
        bytes += nameBytes
        pad(&bytes)
        bytes += contents
        pad(&bytes)
        return bytes
    }

    static func pad(_ bytes: inout [UInt8], to unit: Int = 4) {
        bytes += [UInt8](repeating: 0, count: (unit - bytes.count % unit) % unit)
    }

    static let trailer = entry("TRAILER!!!", mode: 0)

    /// A small initramfs of initramfs-tools.
    static func sample(_ version: String = "6.1.0-1-amd64") -> [UInt8] {
        entry("./conf", mode: 0o40755) + entry("conf/initramfs.conf", Array("MODULES=most\n# MODULES=dep\n".utf8))
            + entry("conf/conf.d/resume", Array("RESUME=UUID=abcd-1234\n".utf8))
            + entry("usr/lib/modules/\(version)/kernel/drivers/ata/libahci.ko", [1, 2, 3])
            + entry("usr/lib/modules/\(version)/kernel/drivers/md/dm-mod.ko.xz", [1])
            + entry("usr/lib/modules/\(version)/modules.dep", [UInt8](repeating: 65, count: 1000)) + trailer
    }

    static func read(_ bytes: [UInt8], limits: InitramfsLimits = InitramfsLimits(), step: Int = 1 << 18) throws
        -> Initramfs
    {
        try InitramfsReader.read(ArrayStream(bytes, step: step), limits: limits)
    }
}
