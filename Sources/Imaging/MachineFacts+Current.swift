// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import SystemPackage

extension MachineFacts {
    /// The facts of this machine, from sysfs.
    package static func current() -> MachineFacts {
        let dmi = FilePath("/sys/class/dmi/id")
        let isUEFI = Files.exists("/sys/firmware/efi")
        var facts = MachineFacts(
            product: Files.text(dmi.appending("product_name")), vendor: Files.text(dmi.appending("sys_vendor")),
            uuid: Files.text(dmi.appending("product_uuid")), architecture: architecture,
            firmware: isUEFI ? "uefi" : "bios")
        // efivarfs: four bytes of attributes, then the value (UEFI 2.10 §8.2; Linux
        // Documentation/filesystems/efivarfs).
        let folder = FilePath("/sys/firmware/efi/efivars")
        for name in isUEFI ? Files.names(in: folder) : [] {
            let variable = name.split(separator: "-").first.map(String.init) ?? name
            guard name.hasSuffix("-8be4df61-93ca-11d2-aa0d-00e098032b8c"),
                let value = try? Files.read(folder.appending(name), limit: 1 << 16), value.count >= 4
            else { continue }
            let hexadecimal = value[4...].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            if variable == "BootOrder" { facts.bootOrder = hexadecimal }
            if variable == "SecureBoot" { facts.secureBoot = value.count > 4 && value[4] == 1 }
            if variable.count == 8, variable.hasPrefix("Boot"), UInt16(variable.dropFirst(4), radix: 16) != nil {
                facts.bootEntries[variable] = hexadecimal
            }
        }
        return facts
    }

    private static var architecture: String {
        #if arch(x86_64)
        "x86_64"
        #elseif arch(arm64)
        "aarch64"
        #else
        "unknown"
        #endif
    }
}
