// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Testing

@testable import BootFiles

@Suite struct KernelModulesTests {
    static func modules() throws -> KernelModules {
        let texts = [
            "modules.dep": """
            kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko kernel/drivers/ata/libata.ko
            kernel/drivers/ata/libahci.ko: kernel/drivers/ata/libata.ko
            kernel/drivers/ata/libata.ko:
            kernel/drivers/ata/ata_generic.ko.xz: kernel/drivers/ata/libata.ko
            kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko
            kernel/drivers/virtio/virtio.ko:
            kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
            kernel/fs/jbd2/jbd2.ko:
            kernel/crypto/crc32c_generic.ko:
            kernel/drivers/mmc/core/mmc_block.ko:

            """,
            "modules.alias": """
            # Aliases extracted from modules themselves.
            alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci
            alias pci:v*d*sv*sd*bc01sc06i01* ahci
            alias pci:v*d*sv*sd*bc01sc01i8[05]* ata_generic
            alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio-pci
            alias fs-ext4 ext4
            alias scsi:t-0x00* sd_mod
            alias mmc:block mmc_block

            """,
            "modules.builtin": "kernel/drivers/scsi/sd_mod.ko\nkernel/drivers/pci/pcie-port.ko\n",
            "modules.softdep": "softdep ext4 pre: crc32c_generic post: nothing\n",
            "modules.builtin.modinfo": "pcie_port.alias=pci:v*d*sv*sd*bc06sc04i00*\0pcie_port.license=GPL\0",
        ]
        return try KernelModules(version: "6.1", files: texts.mapValues { Array($0.utf8) })
    }

    @Test func aliasesAndClosures() throws {
        let modules = try Self.modules()
        #expect(modules.modules(for: "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01") == ["ahci"])
        #expect(modules.modules(for: "pci:v00001AF4d00001001sv0sd0bc01sc00i00") == ["virtio_pci"])
        #expect(modules.modules(for: "pci:v00008086d00007010sv0sd0bc01sc01i80") == ["ata_generic"])
        #expect(modules.modules(for: "pci:v00008086d00007010sv0sd0bc01sc01i81").isEmpty)
        #expect(modules.modules(for: "pci:v00008086d0000244Esv0sd0bc06sc04i00") == ["pcie_port"])
        #expect(modules.modules(for: "scsi:t-0x00") == ["sd_mod"])
        #expect(modules.closure(of: "ahci").last == "ahci")
        #expect(Set(modules.closure(of: "ahci")) == ["ahci", "libahci", "libata"])
        #expect(Set(modules.closure(of: "ext4")) == ["ext4", "jbd2"])
        #expect(modules.isBuiltIn("sd-mod") && modules.has("ata-generic") && !modules.has("nvme"))
        #expect(modules.closure(of: "sd_mod").isEmpty, "nothing is loaded for a built-in driver")
    }

    @Test func whatADeviceNeeds() throws {
        let modules = try Self.modules()
        let ahci = DeviceDriver(
            modalias: "pci:v00008086d00002922sv0sd0bc01sc06i01", driver: "ahci", module: "ahci")
        #expect(modules.need(of: ahci)?.modules == ["ahci"])
        // The medium's kernel calls it otherwise.
        var renamed = ahci
        renamed.module = "ahci_new"
        renamed.driver = "ahci_new"
        #expect(modules.need(of: renamed)?.modules == ["ahci"])
        // Built in there: a module here.
        let builtIn = DeviceDriver(modalias: "pci:v00001AF4d00001001sv0sd0bc01sc00i00", driver: "virtio-pci")
        #expect(modules.need(of: builtIn)?.modules == ["virtio_pci"])
        // A bridge, whose driver is in every kernel.
        let bridge = DeviceDriver(modalias: "pci:v00008086d0000244Esv0sd0bc06sc04i01", driver: "pcieport")
        #expect(modules.need(of: bridge) == nil)
        #expect(modules.need(of: DeviceDriver(modalias: "acpi:PNP0A08:")) == nil)
        // A card, whose driver is a module that sysfs does not show.
        #expect(modules.need(of: DeviceDriver(modalias: "mmc:block", driver: "mmcblk"))?.modules == ["mmc_block"])
        // A controller that this kernel does not know.
        let newer = DeviceDriver(
            modalias: "pci:v00001234d00005678sv0sd0bc01sc07i00", driver: "mpi3mr", module: "mpi3mr")
        #expect(modules.need(of: newer)?.modules == [])
        #expect(modules.need(ofFilesystem: "ext4").modules == ["ext4"])
        #expect(modules.need(ofFilesystem: "xfs").modules == [])
    }

    @Test func whatIsMissing() throws {
        let modules = try Self.modules()
        let needs = [
            ModuleNeed(["ahci"], for: "a"), ModuleNeed(["uas", "virtio_pci"], for: "b"),
            ModuleNeed(["sd_mod"], for: "c"),
            ModuleNeed([], for: "d"),
        ]
        #expect(modules.unmet(needs, by: []).map(\.reason) == ["a", "b", "d"])
        #expect(modules.unmet(needs, by: ["ahci", "virtio_pci", "virtio"]).map(\.reason) == ["a", "d"])
        #expect(modules.unmet(needs, by: ["ahci", "libahci", "libata", "uas"]).map(\.reason) == ["d"])
        #expect(modules.missing(needs, from: ["libata", "uas"]) == ["libahci", "ahci"])
    }

    /// As in Debian 12: names of aliases, of other modules, and of what no root needs.
    @Test func softDependenciesAndCiphers() throws {
        let texts = [
            "modules.dep": """
            a/ext4.ko: a/jbd2.ko
            a/jbd2.ko:
            a/btrfs.ko: a/libcrc32c.ko
            a/libcrc32c.ko:
            a/crc32c_generic.ko:
            a/crc32c-intel.ko:
            a/blake2b_generic.ko:
            a/xts.ko:
            a/ecb.ko:
            a/essiv.ko:
            a/aesni-intel.ko: a/cryptd.ko
            a/cryptd.ko:
            a/uhci-hcd.ko:
            a/ehci-pci.ko:

            """,
            "modules.alias": """
            alias crypto-crc32c crc32c_intel
            alias crc32c crc32c_intel
            alias crypto-crc32c crc32c_generic
            alias crc32c crc32c_generic
            alias blake2b-256 blake2b_generic
            alias crypto-xts xts
            alias crypto-ecb ecb
            alias ecb ecb
            alias crypto-essiv essiv
            alias crypto-aes aesni_intel

            """,
            "modules.builtin": "a/aes_generic.ko\na/sha256_generic.ko\n",
            "modules.builtin.modinfo": "aes_generic.alias=crypto-aes\0sha256_generic.alias=crypto-sha256\0",
            "modules.softdep": """
            softdep ext4 pre: crypto-crc32c
            softdep jbd2 pre: crypto-crc32c post: uhci_hcd
            softdep btrfs pre: blake2b-256
            softdep libcrc32c pre: crc32c
            softdep xts pre: ecb
            softdep cifs md5
            softdep uhci_hcd pre: unknown

            """,
        ]
        let modules = try KernelModules(version: "6.1", files: texts.mapValues { Array($0.utf8) })
        #expect(modules.softNeeds(of: "ext4", for: "x").map(\.modules) == [["crc32c_generic", "crc32c_intel"]])
        #expect(modules.softNeeds(of: "btrfs", for: "x").map(\.modules) == [["crc32c_generic", "crc32c_intel"]])
        #expect(modules.softNeeds(of: "uhci_hcd", for: "x").isEmpty && modules.softNeeds(of: "cifs", for: "x").isEmpty)
        let aes = ["aes_generic", "aesni_intel"]
        #expect(modules.needs(ofCipher: "aes-xts-plain64").map(\.modules) == [aes, ["xts"], ["ecb"]])
        #expect(modules.unmet(modules.needs(ofCipher: "aes-xts-plain64"), by: ["xts"]).map(\.modules) == [["ecb"]])
        #expect(
            modules.needs(ofCipher: "capi:xts(aes)-essiv:sha256").map(\.modules)
                == [["xts"], ["ecb"], aes, ["essiv"], ["sha256_generic"]])
        #expect(modules.needs(ofCipher: "serpent-unknown-plain64").isEmpty && modules.needs(ofCipher: "").isEmpty)
        #expect(modules.needs(ofCipher: String(repeating: "aes-", count: 1000)).count <= 8)
        #expect(modules.need(named: "dm_crypt", for: "y") == ModuleNeed([], for: "y"))
        #expect(modules.need(named: "aes-generic", for: "y").modules == ["aes_generic"])
    }

    /// fnmatch(3), on what a captured system may hold.
    @Test func patterns() {
        func matches(_ pattern: String, _ text: String) -> Bool {
            var budget = 100_000
            return ModulePattern(Array(pattern.utf8)[...]).matches(Array(text.utf8), budget: &budget)
        }
        #expect(matches("a*b*c", "aXXbYYc") && !matches("a*b*c", "aXXbYY") && matches("*", "") && matches("", ""))
        #expect(matches("a?c", "abc") && !matches("a?c", "ac") && matches("[!a-c]x", "dx") && !matches("[^a-c]x", "bx"))
        #expect(matches("[", "[") && matches("a[b", "a[b") && !matches("[]", "x") && matches("x**", "x"))
        let stars = String(repeating: "*a", count: 200)
        #expect(!matches(stars + "b", String(repeating: "a", count: 4000)), "bounded")
    }

    @Test func namesOfModules() {
        #expect(ModuleName(file: "kernel/drivers/md/dm-mod.ko.zst")?.text == "dm_mod")
        #expect(ModuleName(file: "x/.ko") == nil && ModuleName(file: "a.koala") == nil && ModuleName(file: "") == nil)
    }

    @Test func nonsenseIsEmpty() throws {
        let modules = try KernelModules(
            version: "x",
            files: Dictionary(
                uniqueKeysWithValues: KernelModules.fileNames.map { ($0, [0xFF, 0x0A, 0x3A, 0, 0x20, 0x3D, 0x2E]) }))
        #expect(modules.isEmpty && modules.modules(for: "pci:x").isEmpty && modules.closure(of: "x") == ["x"])
    }
}
