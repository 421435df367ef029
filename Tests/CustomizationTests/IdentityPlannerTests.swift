// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Testing

@testable import Customization

struct IdentityPlannerTests {
    private typealias Fixture = IdentityFixture

    @Test func plansNothingThatIsNotAsked() throws {
        let survey = Fixture.survey(["/etc/machine-id": "\(Fixture.machineID)\n", "/etc/hostname": "old\n"])
        #expect(try Fixture.plan(survey, "random-seed").steps.isEmpty)
        let standard = try Fixture.plan(survey, "")
        #expect(standard.volumeChanges.isEmpty)
        #expect(standard.followed.isEmpty)
        #expect(standard.written("/etc/hostname") == nil)
    }

    @Test func isPure() throws {
        let survey = Fixture.survey(["/etc/machine-id": "\(Fixture.machineID)\n"])
        #expect(try Fixture.plan(survey, "standard,uuids") == Fixture.plan(survey, "standard,uuids"))
    }

    @Test func setsTheHostName() throws {
        let survey = Fixture.survey([
            "/etc/hostname": "old\n", "/etc/hosts": "127.0.1.1 old\n10.0.0.1 old\n",
            "/etc/mailname": "old.example.org\n",
        ])
        let plan = try Fixture.plan(survey, "hostname:web2")
        #expect(plan.written("/etc/hostname") == "web2\n")
        #expect(plan.written("/etc/hosts") == "127.0.1.1 web2\n10.0.0.1 old\n")
        #expect(plan.written("/etc/mailname") == "web2.example.org\n")
        #expect(plan.warnings.contains { $0.contains("10.0.0.1") })
        #expect(try Fixture.plan(Fixture.survey(["/etc/hostname": "web2\n"]), "hostname:web2").steps.isEmpty)
    }

    @Test func emptiesTheMachineID() throws {
        var survey = Fixture.survey(["/etc/machine-id": "\(Fixture.machineID)\n"])
        survey.kinds["/var/lib/dbus/machine-id"] = .link
        let plan = try Fixture.plan(survey, "machine-id")
        #expect(plan.written("/etc/machine-id")?.isEmpty == true)
        #expect(plan.removed.isEmpty, "a link leads to the new one")
        #expect(plan.written("/etc/kernel/entry-token") == nil)
        survey.kinds["/var/lib/dbus/machine-id"] = .file
        #expect(try Fixture.plan(survey, "machine-id").removed == ["/var/lib/dbus/machine-id"])
        #expect(try Fixture.plan(Fixture.survey(["/etc/machine-id": ""]), "machine-id").steps.isEmpty)
        #expect(try Fixture.plan(Fixture.survey(["/etc/machine-id": "uninitialized\n"]), "machine-id").steps.isEmpty)
    }

    /// Boot entries that are named after the old id would get lost.
    @Test func keepsTheEntryToken() throws {
        var survey = Fixture.survey([
            "/etc/machine-id": "\(Fixture.machineID)\n",
            "/boot/loader/entries/\(Fixture.machineID)-6.1.conf": "title x\n",
        ])
        #expect(
            try Fixture.plan(survey, "machine-id").written("/etc/kernel/entry-token") == "\(Fixture.machineID)\n")
        survey.kinds["/etc/kernel/entry-token"] = .file
        #expect(try Fixture.plan(survey, "machine-id").written("/etc/kernel/entry-token") == nil)
        survey = Fixture.survey(["/etc/machine-id": "\(Fixture.machineID)\n"])
        survey.kinds["/boot/efi/\(Fixture.machineID)"] = .folder
        #expect(try Fixture.plan(survey, "machine-id").written("/etc/kernel/entry-token") != nil)
    }

    @Test func keepsSSHKeysWhereNoneCanBeMade() throws {
        var survey = Fixture.survey()
        survey.kinds["/etc/ssh/ssh_host_rsa_key"] = .file
        survey.kinds["/etc/ssh/ssh_host_rsa_key.pub"] = .file
        survey.kinds["/etc/ssh/ssh_host_config"] = .file
        let plan = try Fixture.plan(survey, "ssh-keys")
        #expect(
            plan.steps.map(\.verb) == [
                .renewSSHKeys(["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub"])
            ])
        survey.tools = []
        #expect(try Fixture.plan(survey, "ssh-keys").pending.count == 1)
        survey.tools = ["ssh-keygen"]
        survey.obstacleToTools = "its programs are for another processor"
        #expect(try Fixture.plan(survey, "ssh-keys").steps.isEmpty)
        #expect(try Fixture.plan(survey, "ssh-keys").pending.count == 1)
    }

    /// After a power cut between setting the old keys aside and making new ones, the old ones are the only ones.
    @Test func sshKeysThatWereSetAsideAreNotLost() throws {
        var survey = Fixture.survey()
        let aside = "/etc/ssh/.reforge-old-ssh_host_rsa_key"
        survey.kinds[aside] = .file
        let plan = try Fixture.plan(survey, "ssh-keys")
        #expect(plan.steps.map(\.verb) == [.renewSSHKeys([aside])])
        #expect(!plan.alreadyRight.contains { $0.contains("SSH") })
        survey.kinds["/etc/ssh/ssh_host_rsa_key"] = .file
        #expect(
            try Fixture.plan(survey, "ssh-keys").steps.map(\.verb) == [
                .renewSSHKeys([aside, "/etc/ssh/ssh_host_rsa_key"])
            ])
        // Where none can be made, none is removed.
        survey.tools = []
        #expect(try Fixture.plan(survey, "ssh-keys").steps.isEmpty)
        #expect(try Fixture.plan(survey, "ssh-keys").pending.count == 1)
    }

    @Test func anUnreadableMachineIDIsNotRight() throws {
        var survey = Fixture.survey()
        survey.kinds["/etc/machine-id"] = .link
        let plan = try Fixture.plan(survey, "machine-id")
        #expect(plan.steps.isEmpty && plan.pending.count == 1)
        #expect(!plan.alreadyRight.contains { $0.contains("machine-id") })
    }

    /// A system inside of LUKS, opened by a key: GRUB's core image names the LUKS volume.
    @Test func keepsTheLUKSVolumeThatGRUBOpens() throws {
        let luks = "5eed0005-0000-4000-8000-000000000005"
        var volumes = Fixture.volumes
        volumes.append(Fixture.volume(5, .luks, "crypto_LUKS", luks, type: PartitionType.linuxFilesystem))
        #expect(
            try Fixture.plan(Fixture.survey(volumes: volumes), "uuids").volumeChanges.map(\.number) == [2, 3, 4, 5])
        volumes[1].inside = .init(partition: 5, containers: [.luks(uuid: luks)])
        volumes[1].logicalVolume = .init(name: "vg/root", partition: 5)
        // By a name that is not crypttab's, root would not be in the new initramfs, which names the swap, too.
        #expect(try Fixture.plan(Fixture.survey(volumes: volumes), "uuids").volumeChanges.map(\.number) == [2, 3])
        volumes[1].inside = .init(partition: 5, containers: [.luks(uuid: luks, mapping: "root_crypt")])
        let plan = try Fixture.plan(Fixture.survey(volumes: volumes), "uuids,lvm")
        #expect(plan.volumeChanges.map(\.number) == [2, 3, 4])
        #expect(plan.pending.contains { $0.contains(luks) })
        #expect(plan.pending.contains { $0.contains("the group vg keeps its ids") })
        #expect(!plan.alreadyRight.contains { $0.contains("LVM") })
    }

    @Test func followsEveryReference() throws {
        let old = Fixture.root
        let paths = [
            "/etc/crypttab", "/boot/grub/grub.cfg", "/boot/grub/grubenv", "/boot/efi/EFI/debian/grub.cfg",
            "/boot/loader/entries/x.conf", "/etc/kernel/cmdline", "/etc/default/grub",
        ]
        var texts = Dictionary(uniqueKeysWithValues: paths.map { ($0, "UUID=\(old)\n") })
        texts["/etc/initramfs-tools/conf.d/resume"] = "RESUME=UUID=\(Fixture.swap)\n"
        texts["/etc/hostname"] = "old\n"
        let plan = try Fixture.plan(Fixture.survey(texts), "uuids")
        #expect(plan.volumeChanges.map(\.number) == [2, 3, 4])
        #expect(Set(plan.followed) == Set(paths + ["/etc/fstab", "/etc/initramfs-tools/conf.d/resume"]))
        #expect(plan.commands == [["update-initramfs", "-u", "-k", "all"]])
        #expect(plan.pending.isEmpty)
        // The volumes come first, and the generator after the files that it reads.
        #expect(plan.steps.map { $0.verb.isOfVolumes }.prefix(4) == [true, true, true, false])
        #expect(plan.steps.last?.verb.needsPrograms == true)
        #expect(plan.changesIdentifiers)
        for change in plan.volumeChanges {
            #expect(change.change.old.utf8.count == change.change.new.utf8.count)
            #expect(change.change.old != change.change.new)
        }
    }

    /// A volume that is named where Reforge cannot follow keeps its identifier.
    @Test func keepsWhatCannotBeFollowed() throws {
        var survey = Fixture.survey()
        survey.programs = [.init(path: "/boot/efi/EFI/Linux/x.efi", volumes: [3], isKernel: true)]
        var plan = try Fixture.plan(survey, "uuids")
        #expect(plan.volumeChanges.map(\.number) == [2], "the kernel names the root, and may know the swap")
        #expect(plan.pending.count == 2)

        survey.programs = [.init(path: "/boot/efi/EFI/debian/grubx64.efi", volumes: [3], isKernel: false)]
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.map(\.number) == [2, 3, 4])
        survey.obstacleToDisk = "the disk is a file"
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.map(\.number) == [2])

        survey = Fixture.survey()
        survey.unread = [.init(path: "/boot/grub/grub.cfg", reason: "it is too large")]
        plan = try Fixture.plan(survey, "uuids")
        #expect(plan.volumeChanges.isEmpty)
        #expect(plan.pending.contains { $0.contains("/boot/grub/grub.cfg") })

        survey = Fixture.survey()
        survey.tools.remove("update-initramfs")
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.map(\.number) == [2, 3])

        survey = Fixture.survey()
        survey.mountProblems = [.init(path: "/boot/efi", reason: "no driver")]
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.isEmpty)

        survey = Fixture.survey()
        survey.ownTools = []
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.map(\.number) == [2, 4])

        var twice = Fixture.volumes
        twice[2].uuid = Fixture.root
        #expect(try Fixture.plan(Fixture.survey(volumes: twice), "uuids").volumeChanges.map(\.number) == [2])
    }

    /// GRUB's core image holds the UUID of a /boot that it does not find by its partition.
    @Test func makesACoreImageAnew() throws {
        var survey = Fixture.survey(["/boot/grub/i386-pc/load.cfg": "search.fs_uuid \(Fixture.root) root\n"])
        #expect(try Fixture.plan(survey, "uuids").commands.count == 1, "no boot code needs it")
        survey.hasBIOSGrub = true
        let plan = try Fixture.plan(survey, "uuids")
        #expect(plan.commands.contains(["grub-install", "--target=i386-pc", "/dev/sda"]))
        #expect(!plan.followed.contains("/boot/grub/i386-pc/load.cfg"))
        survey.tools.remove("grub-install")
        #expect(try Fixture.plan(survey, "uuids").volumeChanges.map(\.number) == [2, 4])
    }

    /// After a power cut, references of volumes that did change are still followed, and the others are not touched.
    @Test func finishesAnInterruptedChange() throws {
        let fresh = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
        var volumes = Fixture.volumes
        volumes[1].uuid = fresh
        var survey = Fixture.survey(volumes: volumes)
        let done = IdentifierChange(Fixture.root, to: fresh)
        survey.unfinished = [done, IdentifierChange(Fixture.swap, to: "bbbbbbbb-bbbb-4ccc-8ddd-eeeeeeeeeeee")]
        var plan = try Fixture.plan(survey, "machine-id")
        #expect(plan.unfinished == [done])
        #expect(plan.followed == ["/etc/fstab"])
        #expect(plan.volumeChanges.isEmpty)
        plan = try Fixture.plan(survey, "uuids")
        #expect(plan.volumeChanges.map(\.number) == [2, 4], "the root has its new one already")
        #expect(plan.hasRecord && !plan.keepsRecord)
        // fstab names /boot by its old identifier: what is on it is followed by the next run.
        survey.mountProblems = [.init(path: "/boot", reason: "UUID=\(Fixture.root) is not on this disk")]
        plan = try Fixture.plan(survey, "machine-id")
        #expect(plan.keepsRecord && plan.followed == ["/etc/fstab"])
        #expect(plan.pending.contains { $0.contains("run the same command again") })
        survey.unfinished = []
        #expect(try !Fixture.plan(survey, "machine-id").keepsRecord)
    }

    /// Without their key, encrypted credentials are lost.
    @Test func keepsTheKeyOfCredentials() throws {
        var survey = Fixture.survey()
        survey.kinds[IdentityFiles.credentialSecret] = .file
        #expect(try Fixture.plan(survey, "random-seed").removed == [IdentityFiles.credentialSecret])
        survey.kinds[IdentityFiles.credentials] = .folder
        let plan = try Fixture.plan(survey, "random-seed")
        #expect(plan.removed.isEmpty && plan.byHand.contains { $0.contains(IdentityFiles.credentials) })
    }

    @Test func renewsGroups() throws {
        var survey = Fixture.survey()
        survey.groups = ["vg": [5], "wide": [6, 7]]
        let plan = try Fixture.plan(survey, "lvm")
        #expect(plan.steps.map(\.verb) == [.renewGroup(name: "vg", partition: 5)])
        #expect(plan.pending.count == 1)
        #expect(plan.volumeChanges.isEmpty)
    }

    @Test func removesSeedsAndLeases() throws {
        var survey = Fixture.survey(["/etc/iscsi/initiatorname.iscsi": "InitiatorName=iqn.1993-08.org.debian:01:abc\n"])
        for path in ["/boot/efi/loader/random-seed", "/var/lib/systemd/random-seed", "/var/lib/dhcp/dhclient.leases"] {
            survey.kinds[path] = .file
        }
        survey.cardNames = [.init(path: "/etc/netplan/x.yaml", name: "enp1s0")]
        #expect(
            try Fixture.plan(survey, "random-seed").removed
                == ["/var/lib/systemd/random-seed", "/boot/efi/loader/random-seed"])
        let plan = try Fixture.plan(survey, "network")
        #expect(plan.removed == ["/var/lib/dhcp/dhclient.leases"])
        let name = try #require(plan.written("/etc/iscsi/initiatorname.iscsi"))
        #expect(name.hasPrefix("InitiatorName=iqn.1993-08.org.debian:01:") && !name.contains("abc\n"))
        #expect(plan.byHand.contains { $0.contains("enp1s0") })
    }

    @Test func saysWhatMustBeDoneByHand() throws {
        var survey = Fixture.survey(
            volumes: Fixture.volumes + [
                Fixture.volume(5, .ntfs, "ntfs", "74541FDE636F2FA9", type: PartitionType.microsoftBasicData)
            ])
        survey.kinds["/var/lib/tailscale/tailscaled.state"] = .file
        let plan = try Fixture.plan(survey, "")
        #expect(plan.byHand.contains { $0.contains("sysprep") })
        #expect(plan.byHand.contains { $0.contains("tailscale") })
        survey.system = nil
        let without = try Fixture.plan(survey, "standard,uuids")
        #expect(without.steps.isEmpty)
        #expect(without.pending.count == 1)
        #expect(without.byHand.contains { $0.contains("sysprep") })
    }

    @Test func makesIdentifiersOfTheOldForm() {
        let fresh = IdentityFixture.survey().freshNode
        for old in ["5EED-0002", "74541FDE636F2FA9", IdentityFixture.root] {
            let new = IdentityPlanner.identifier(like: old, from: fresh)
            #expect(new.utf8.count == old.utf8.count)
            #expect(new.filter { $0 == "-" }.count == old.filter { $0 == "-" }.count)
        }
    }
}
