// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import SystemPackage
import Testing

@testable import Emulator

@Suite struct MachineSettingsTests {
    private func settings() -> MachineSettings {
        MachineSettings(
            memoryByteCount: 2 << 30, baseSocket: "/run/p/base", overlay: "/tmp/a,b/overlay.qcow2", folder: "/run/p")
    }

    @Test func aPlainMachine() {
        let text = settings().arguments.joined(separator: " ")
        let golden = """
            qemu-system-x86_64 -name guest=reforge -no-user-config -nodefaults \
            -sandbox on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny,spawn=deny \
            -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -rtc base=utc \
            -vga std -usb -device usb-tablet -device virtio-rng-pci \
            -chardev stdio,id=qmp,signal=off -mon chardev=qmp,mode=control -display none \
            -blockdev {"driver":"nbd","node-name":"base","read-only":true,"server":{"path":"/run/p/base","type":"unix"}} \
            -blockdev {"backing":"base","cache":{"no-flush":true},"driver":"qcow2",\
            "file":{"driver":"file","filename":"/tmp/a,b/overlay.qcow2","read-only":false},\
            "node-name":"disk","read-only":false} \
            -device ide-hd,bus=ide.0,drive=disk,rerror=report,werror=stop,bootindex=1 -nic none
            """
        #expect(text == golden)
    }

    @Test func aWatchedMachineWithUEFI() {
        var settings = settings()
        settings.firmware = .uefi(code: "/usr/share/OVMF/CODE.fd", variables: "/run/p,q/variables.fd")
        settings.bus = .nvme
        settings.logicalSectorSize = 4096
        settings.diskSerial = "S1"
        settings.usesKVM = true
        settings.isWatched = true
        settings.asksForSerialLogin = true
        settings.clock = .localtime
        let text = settings.arguments.joined(separator: " ")
        for part in [
            "-accel kvm -cpu max", "-rtc base=localtime",
            "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/CODE.fd",
            "if=pflash,unit=1,format=raw,file=/run/p,,q/variables.fd",
            "-device nvme,drive=disk,serial=S1,logical_block_size=4096,physical_block_size=4096 -nic none",
            "-action shutdown=pause,panic=pause -device pvpanic", "name=org.qemu.guest_agent.0",
            "-device virtconsole,bus=lines.0,chardev=console", "io.systemd.credential:getty.ttys.serial=ttyS0",
        ] { #expect(text.contains(part), "\(part)") }
        // A boot index would make OVMF rewrite the boot order.
        #expect(!text.contains("bootindex"))
    }

    @Test func aNetworkOnlyWhereItIsAskedFor() {
        var settings = settings()
        #expect(settings.arguments.suffix(2) == ["-nic", "none"])
        settings.network = .user
        #expect(settings.arguments.contains("user,id=net"))
    }

    @Test func anOverlayBelowIsOnlyRead() {
        let nodes = MachineSettings.diskNodes(baseSocket: "/s", overlays: ["/kept", "/new"], writesLast: true)
        #expect(nodes.count == 3)
        #expect(
            nodes[1].contains("\"node-name\":\"layer0\",\"read-only\":true")
                && nodes[1].contains("\"backing\":\"base\""))
        #expect(
            nodes[2].contains("\"node-name\":\"disk\",\"read-only\":false")
                && nodes[2].contains("\"backing\":\"layer0\""))
        let readOnly = MachineSettings.diskNodes(baseSocket: "/s", overlays: ["/kept"], writesLast: false)
        #expect(readOnly.allSatisfy { !$0.contains("\"read-only\":false") })
    }

    @Test func firmwareVariables() throws {
        // The start of Debian's OVMF_VARS_4M.fd: a volume header of 72 bytes and the store's.
        var template = [UInt8](repeating: 0xFF, count: 4096)
        template.replaceSubrange(0..<72, with: [UInt8](repeating: 0, count: 72))
        template.replaceSubrange(40..<44, with: Array("_FVH".utf8))
        template[48] = 72
        let guid = try #require(GUID("aaf32c78-947b-439a-a180-2e144ec37792"))
        template.replaceSubrange(72..<88, with: guid.mixedEndianBytes)
        template.replaceSubrange(88..<100, with: [0, 1, 0, 0, 0x5A, 0xFE, 0, 0, 0, 0, 0, 0])
        var store = try #require(FirmwareVariables(template: template))
        let isAdded = store.add("BootOrder", [1, 0])
        #expect(isAdded)
        #expect(Array(store.bytes[100..<104]) == [0xAA, 0x55, 0x3F, 0x00])
        // Name of 20 bytes, value of 2.
        #expect(Array(store.bytes[136..<144]) == [20, 0, 0, 0, 2, 0, 0, 0])
        #expect(Array(store.bytes[160..<164]) == [0x42, 0, 0x6F, 0])
        #expect(store.bytes[180] == 1 && store.bytes[182] == 0xFF)
        // 256 bytes of store: no room for this one, and nothing is written.
        let before = store.bytes
        let isLongAdded = store.add("Boot0001", [UInt8](repeating: 7, count: 200))
        #expect(!isLongAdded && store.bytes == before)
        #expect(FirmwareVariables(template: [UInt8](repeating: 0, count: 4096)) == nil)
        #expect(FirmwareVariables(template: []) == nil)
    }
}
