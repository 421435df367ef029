// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import DiskModel
import TestSupport
import Testing
import WindowsFiles

@testable import BootRepair

/// The machines that disks are exported for, and the answer of the appliance that adapts one.
struct HypervisorTests {
    /// Lines of Debian 12's modules.alias (6.1), all of the drivers below.
    private static let aliases = """
        alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
        alias virtio:d00000002v* virtio_blk
        alias virtio:d00000008v* virtio_scsi
        alias pci:v000015ADd000007C0sv*sd*bc*sc*i* vmw_pvscsi
        alias vmbus:32264132cb86a2449b5c50d1417354f5 hv_storvsc
        alias vmbus:d96361baa104294db60572e2ffb1dc7f hv_storvsc
        alias scsi:t-0x00* sd_mod
        alias pci:v00001000d00000054sv*sd*bc*sc*i* mptsas
        alias acpi*:VMBUS:* hv_vmbus
        alias pci:v*d*sv*sd*bc01sc06i01* ahci
        alias pci:v00008086d00007111sv*sd*bc*sc*i* ata_piix

        """

    private static func kernel(_ aliases: String = aliases) throws -> KernelModules {
        let names = Set(aliases.split(separator: "\n").compactMap { $0.split(separator: " ").last.map(String.init) })
        let modules = names.sorted().map { "kernel/\($0).ko:\n" }.joined()
        return try KernelModules(
            version: "6.1", files: ["modules.dep": Array(modules.utf8), "modules.alias": Array(aliases.utf8)])
    }

    private static func needs(_ hypervisor: Hypervisor, _ firmware: Firmware) throws -> Set<String> {
        let kernel = try kernel()
        let devices = hypervisor.machine(firmware: firmware).devices(behind: nil).joined()
        return Set(devices.compactMap { kernel.need(of: $0) }.flatMap(\.modules))
    }

    @Test func theirControllersAreThoseOfLinux() throws {
        #expect(
            try Self.needs(.kvm, .uefi) == ["virtio_blk", "virtio_scsi", "virtio_pci", "sd_mod"])
        #expect(try Self.needs(.vmware, .uefi) == ["vmw_pvscsi", "mptsas", "ahci", "sd_mod"])
        #expect(try Self.needs(.hyperv, .uefi) == ["hv_storvsc", "hv_vmbus", "sd_mod"])
        #expect(try Self.needs(.hyperv, .bios) == ["hv_storvsc", "hv_vmbus", "ata_piix", "sd_mod"])
        #expect(try Self.needs(.virtualbox, .bios) == ["ahci", "sd_mod"])
    }

    /// Ubuntu's kernels have these built in: what is no module is not missing.
    @Test func builtInDriversAreNotNeeded() throws {
        let few = Self.aliases.split(separator: "\n").filter {
            !$0.hasSuffix(" sd_mod") && !$0.hasSuffix(" virtio_pci") && !$0.hasSuffix(" hv_vmbus")
        }
        let kernel = try Self.kernel(few.joined(separator: "\n") + "\n")
        for hypervisor in Hypervisor.allCases {
            for device in hypervisor.machine(firmware: .uefi).devices(behind: nil).joined() {
                #expect(kernel.need(of: device)?.modules.isEmpty != true, "\(hypervisor): \(device)")
            }
        }
    }

    @Test func windowsKnowsThemToo() {
        func services(_ hypervisor: Hypervisor, _ firmware: Firmware) -> Set<String> {
            let ways = hypervisor.machine(firmware: firmware).devices(behind: nil).map { $0.compactMap(\.modalias) }
            return Set(ways.flatMap(StorageDrivers.needs).compactMap(\.services.first))
        }
        #expect(services(.kvm, .bios) == ["viostor", "vioscsi"])
        #expect(services(.vmware, .bios) == ["pvscsi", "LSI_SAS", "storahci"])
        #expect(services(.hyperv, .uefi) == ["storvsc", "vmbus"])
        #expect(services(.hyperv, .bios) == ["storvsc", "vmbus", "pciide", "atapi"])
        #expect(services(.virtualbox, .uefi) == ["storahci"])
    }

    @Test func recordsAreReadAgain() throws {
        for hypervisor in Hypervisor.allCases {
            for firmware in [Firmware.bios, .uefi] {
                let record = hypervisor.machine(firmware: firmware)
                #expect(try MachineRecord(json: DoctorJSON.encode(record)) == record)
                #expect(record.firmware == firmware && record.name.hasPrefix(hypervisor.name))
                #expect(record.secureBoot == nil, "its users choose")
            }
        }
        #expect(Hypervisor.hyperv.machine(firmware: .uefi).name == "Hyper-V machine of generation 2")
        #expect(Hypervisor.hyperv.machine(firmware: .bios).name == "Hyper-V machine of generation 1")
    }

    private static func answer() -> RepairAnswer {
        var survey = Fixture.survey(.bios)
        survey.bios.chain = .misdirected
        var answer = RepairAnswer(before: DoctorReport(survey, options: Fixture.medium(.bios), subject: "disk"))
        answer.after = DoctorReport(Fixture.survey(.bios), options: Fixture.medium(.bios), subject: "disk")
        (answer.changed, answer.pending) = (["installed GRUB"], "a rest of work")
        return answer
    }

    @Test func answersAreReadStrictly() throws {
        let answer = Self.answer()
        let bytes = try answer.json()
        #expect(try RepairAnswer(json: bytes) == answer)
        #expect(answer.findings == answer.after?.findings)
        let text = String(decoding: bytes, as: UTF8.self)
        for (old, new) in [
            ("grub-core-misdirected", "grub-core-unknown"), ("installed GRUB", "\\u001b[2J"),
            ("a rest of work", "\\u202e"),
            ("\"schema\":1,\"warnings\"", "\"schema\":2,\"warnings\""), ("\"changed\"", "\"change\""),
        ] {
            let parts = text.split(separator: old, maxSplits: 1, omittingEmptySubsequences: false)
            try #require(parts.count == 2, "\(old)")
            #expect(throws: DoctorError.self, "\(old)") {
                try RepairAnswer(json: Array((parts[0] + new + parts[1]).utf8))
            }
        }
        #expect(throws: DoctorError.self) {
            try RepairAnswer(json: [UInt8](repeating: 32, count: RepairAnswer.longestJSON + 1))
        }
    }

    @Test func noiseNeverTraps() throws {
        var random = SeededGenerator(seed: Sample.seed())
        let whole = try Self.answer().json()
        for _ in 0..<1000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
            }
            _ = try? RepairAnswer(json: bytes)
        }
    }

    @Test func textsNameTheFileAndNotTheDiskOfTheAppliance() {
        let text = RepairAnswer.shown(
            "could not install GRUB on /dev/vda: \u{7}", hidden: "/dev/vda", subject: "a.vmdk")
        #expect(text == "could not install GRUB on a.vmdk: ?")
    }
}
