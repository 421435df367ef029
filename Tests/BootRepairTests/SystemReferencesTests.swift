// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

/// crypttab, command lines, and the names of network cards.
struct SystemReferencesTests {
    private static func survey(
        _ files: [(String, String)], _ change: (inout SystemReferencesFinding) -> Void = { _ in }
    ) -> SystemBootSurvey {
        var survey = Fixture.survey(.bios)
        survey.volumes.append(
            Fixture.volume(
                5, 1200..<1210, Fixture.volumes[2].typeGUID.description, .luks, "crypto_LUKS",
                "abcd0005-0000-4000-8000-000000000005"))
        var finding = SystemReferencesFinding()
        finding.files = files.map { SystemReferences.file($0.1, path: $0.0) }
        change(&finding)
        survey.findings[SystemReferences()] = finding
        return survey
    }

    private static func plan(_ survey: SystemBootSurvey, captured: String? = "sda") -> BootRepairPlan {
        var options = Fixture.medium(.bios)
        options.capturedDiskName = captured
        return BootRepair.plan(survey, options: options)
    }

    private static func edits(_ plan: BootRepairPlan) -> [String] {
        plan.steps.flatMap { step -> [String] in
            if case .editFile(let edit) = step.verb { edit.changes.map { "\(edit.file.path): \($0.to)" } } else { [] }
        }
    }

    /// The hook of initramfs-tools looks in crypttab for the name of the mapping that root is on.
    @Test func anEncryptedRootIsOpenedByTheSystemsName() {
        let partition = "abcd0005-0000-4000-8000-000000000005"
        func mappings(_ crypttab: String) -> [String] {
            var survey = Self.survey([("/etc/crypttab", crypttab)]) {
                $0.mappings = SystemReferences.mappings(crypttab)
            }
            survey.volumes[2].inside = .init(partition: 5, containers: [.luks(uuid: partition, cipher: "aes")])
            survey.volumes[3].inside = .init(partition: 5, containers: [.luks(uuid: partition), .luks(uuid: "ABCD")])
            return survey.volumesNamedByCrypttab().flatMap { volume in
                (volume.inside?.containers ?? []).map { container in
                    if case .luks(_, let cipher, let mapping) = container {
                        return (cipher ?? "") + (mapping.map { ":\($0)" } ?? "")
                    }
                    return "another container"
                }
            }
        }
        let crypttab = "# x UUID=abcd\nroot_crypt UUID=\(partition) none luks\ninner\tUUID=abcd none\n"
        #expect(mappings(crypttab) == ["aes:root_crypt", ":root_crypt", ":inner"])
        #expect(mappings("root_crypt /dev/disk/by-uuid/\(partition)\n")[0] == "aes:root_crypt")
        #expect(mappings("root_crypt\n\nswap UUID=1 x swap\n") == ["aes", "", ""])
    }

    @Test func deviceNamesBecomeUUIDs() {
        let files = [
            (
                "/etc/crypttab",
                "# x\nroot_crypt /dev/sda5 none luks\nswap /dev/sda4 /dev/urandom swap\nother UUID=abcd0005-0000-4000-8000-000000000005 none\nlater /dev/sdz1 none noauto\n"
            ),
            (
                "/etc/default/grub",
                "# GRUB_CMDLINE_LINUX=\"root=/dev/sda3\"\nGRUB_CMDLINE_LINUX=\"resume=/dev/sda4 quiet\"\n"
            ),
            ("/etc/kernel/cmdline", "root=/dev/sda3 ro\n"),
        ]
        let plan = Self.plan(Self.survey(files))
        #expect(
            Self.edits(plan) == [
                "/etc/crypttab: UUID=abcd0005-0000-4000-8000-000000000005", "/etc/crypttab: UUID=\(Fixture.swapUUID)",
                "/etc/default/grub: GRUB_CMDLINE_LINUX=\"resume=UUID=\(Fixture.swapUUID)",
                "/etc/kernel/cmdline: root=UUID=\(Fixture.rootUUID)",
            ], "\(plan)")
        // The menu is made from it again, behind the edit.
        let grub = plan.steps.firstIndex { "\($0)".contains("update-grub") }
        let edit = plan.steps.firstIndex { "\($0)".contains("/etc/default/grub") }
        #expect(edit != nil && grub != nil && (edit ?? 9) < (grub ?? 0))
        #expect(Set(plan.findings.map(\.code)).isSuperset(of: ["crypttab-lost", "command-line-lost"]))
    }

    @Test func identifiersOfOtherDisksStay() {
        let files = [("/etc/crypttab", "data UUID=5eed0009-0000-4000-8000-000000000009 none luks\nx /dev/sdb1 none\n")]
        let plan = Self.plan(Self.survey(files))
        #expect(plan.steps.isEmpty && plan.findings.map(\.code) == ["crypttab-lost", "crypttab-lost"], "\(plan)")
        let right = Self.plan(Self.survey([("/etc/kernel/cmdline", "root=UUID=\(Fixture.rootUUID) ro")]))
        #expect(right.isEmpty)
    }

    @Test func namesInConfigurations() {
        func names(_ pairs: [(String?, String?)]) -> [String] { pairs.map { $0.0 ?? $0.1 ?? "" } }
        #expect(
            names(
                NetworkNames.interfaces(
                    "auto lo eth0\niface eth0 inet dhcp\niface br0 inet dhcp\nallow-hotplug enp3s0\nauto /eth*\niface eth0.5 inet dhcp\n"
                ))
                == ["eth0", "enp3s0"])
        let netplan = """
            network:
              version: 2
              ethernets:
                enp3s0:
                  dhcp4: true
                label:
                  match:
                    macaddress: "AA:bb:cc:00:11:22"
                  set-name: lan0
              bridges:
                br0: {interfaces: [enp3s0]}
              wifis:
                'wlp2s0':
                  access-points: {}
            """
        #expect(names(NetworkNames.netplan(netplan)) == ["enp3s0", "AA:bb:cc:00:11:22", "wlp2s0"])
        #expect(
            names(NetworkNames.systemdNetwork("[Match]\nName=eth0 en*\nMACAddress=aa:bb\n[Network]\nName=x\n"))
                == ["eth0", "aa:bb"])
        #expect(
            NetworkNames.rules("SUBSYSTEM==\"net\", ATTR{address}==\"aa:bb\", NAME=\"eth7\"\n# NAME=\"x\"").map {
                "\($0)"
            }
                == ["(Optional(\"eth7\"), Optional(\"aa:bb\"))"])
        for text in ["", "\u{0}", "ethernets:", "ethernets:\n  :\n", "=\n=", "[Match]\n=", "iface"] {
            _ = (
                NetworkNames.netplan(text), NetworkNames.interfaces(text), NetworkNames.systemdNetwork(text),
                NetworkNames.rules(text)
            )
        }
    }

    @Test func lostCardsAreListed() {
        let card = NetworkCard(name: "eth0", address: "52:54:00:00:00:01", likelyNames: ["enp0s25", "enx525400000001"])
        let lost = Self.survey([]) {
            $0.networkNames = [NetworkName(file: "/etc/network/interfaces", name: "enp3s0", address: nil)]
            $0.cards = [card]
        }
        let finding = Self.plan(lost).findings.first { $0.code == "network-name-lost" }
        #expect(finding?.lines.joined().contains("enp3s0 → enp0s25") == true, "\(Self.plan(lost))")
        for name in ["enp0s25", "eth0", "enx525400000001"] {
            var right = lost
            right.findings[SystemReferences()]?.networkNames[0].name = name
            #expect(Self.plan(right).findings.isEmpty)
        }
        // A rule that names a card here by its address.
        var ruled = lost
        ruled.findings[SystemReferences()]?.networkNames.append(
            NetworkName(file: "/etc/udev/rules.d/70-persistent-net.rules", name: "enp3s0", address: card.address))
        #expect(Self.plan(ruled).findings.isEmpty)
        // On a workstation, the cards are another machine's.
        let options = Fixture.workstation()
        #expect(BootRepair.plan(lost, options: options).findings.allSatisfy { $0.code != "network-name-lost" })
    }

    @Test func namesOfCardsFromSysfs() throws {
        let sys = try Files.makeTemporaryFolder("reforge-net-test")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", sys.string]) }
        let script = """
            cd "$1"; mkdir -p class/net bus/pci/slots/3
            add() { mkdir -p "devices/$1/net/$2"; ln -s "../../../$(basename "$1")" "devices/$1/net/$2/device" 2>/dev/null
                    ln -sfn "$PWD/devices/$1" "devices/$1/net/$2/device"; echo "$3" >"devices/$1/net/$2/address"; ln -s "$PWD/devices/$1/net/$2" "class/net/$2"; }
            add pci0000:00/0000:00:03.0/virtio0 eth0 52:54:00:00:00:01
            add pci0000:00/0000:00:1c.0/0000:0a:00.1 eth1 52:54:00:00:00:02
            echo 0000:0a:00 >bus/pci/slots/3/address
            echo 7 >devices/pci0000:00/0000:00:03.0/acpi_index
            mkdir -p devices/virtual/net/lo; ln -s "$PWD/devices/virtual/net/lo" class/net/lo
            """
        let made = try ChildProcess.run(["sh", "-euc", script, "sh", sys.string])
        try #require(made.succeeded, "\(made.lastWords)")
        let cards = NetworkCard.all(sys: sys)
        #expect(
            cards.map(\.likelyNames) == [
                ["eno7", "enp0s3", "enx525400000001"], ["ens3f1", "enp10s0f1", "enx525400000002"],
            ], "\(cards)")
    }
}
