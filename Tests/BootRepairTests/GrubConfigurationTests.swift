// SPDX-License-Identifier: GPL-3.0-or-later
import Testing

@testable import BootRepair

@Suite struct GrubConfigurationTests {
    func entry(search: String, root: String, more: String = "ro quiet") -> String {
        """
        menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-\(search)' {
        \tinsmod part_gpt
        \tset root='hd0,gpt3'
        \tif [ x$feature_platform_search_hint = xy ]; then
        \t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt3 --hint-efi=hd0,gpt3  \(search)
        \telse
        \t  search --no-floppy --fs-uuid --set=root \(search)
        \tfi
        \tlinux\t/boot/vmlinuz-6.1.0-18-amd64 root=\(root) \(more)
        \tinitrd\t/boot/initrd.img-6.1.0-18-amd64
        }

        """
    }
    func problems(_ text: String) -> [String] {
        GrubConfiguration(text).problems(volumes: Fixture.volumes, rootPartition: 3)
    }
    let other = "11111111-2222-3333-4444-555555555555"

    @Test func rootByWhatARestoreKeeps() {
        #expect(problems(entry(search: Fixture.rootUUID, root: "UUID=\(Fixture.rootUUID)")) == [])
        #expect(problems(entry(search: Fixture.rootUUID.uppercased(), root: "PARTUUID=\(Fixture.guid(3))")) == [])
        #expect(problems(entry(search: Fixture.rootUUID, root: "LABEL=root")) == [])
    }

    @Test func otherSystemsByWhatTheyStart() {
        let own = entry(search: Fixture.rootUUID, root: "UUID=\(Fixture.rootUUID)")
        let text = """
            \(own)submenu 'Advanced options' {
            \(entry(search: other, root: "UUID=\(other)"))\(entry(search: other, root: "UUID=\(other)", more: "single"))}
            menuentry "Windows Boot Manager" {
            search --fs-uuid --set=root 1234-ABCD
            chainloader /EFI/Microsoft/Boot/bootmgfw.efi
            }
            menuentry 'UEFI Firmware Settings' { fwsetup }
            """
        let others = GrubConfiguration(text).otherSystems(volumes: Fixture.volumes, rootPartition: 3)
        #expect(others.map(\.title) == ["Debian GNU/Linux", "Windows Boot Manager"])
        #expect(
            others.map(\.place) == [
                .kernel(root: .filesystem(other)),
                .loader("/efi/microsoft/boot/bootmgfw.efi", on: .filesystem("1234-abcd")),
            ])
        #expect(GrubConfiguration(own).otherSystems(volumes: Fixture.volumes, rootPartition: 3) == [])
    }

    @Test func entriesOfOtherDisksDoNotCount() {
        let text =
            entry(search: Fixture.rootUUID, root: "UUID=\(Fixture.rootUUID)")
            + entry(search: other, root: "UUID=\(other)")
        #expect(problems(text) == [])
    }

    @Test func whatDoesNotStart() {
        #expect(problems("set timeout=5\n") == ["it starts no kernel"])
        #expect(problems("insmod blscfg\nblscfg\n") == [])
        let named = problems(entry(search: Fixture.rootUUID, root: "/dev/sda3"))
        #expect(named.first?.contains("/dev/sda3") == true)
        #expect(problems(entry(search: other, root: "UUID=\(Fixture.rootUUID)")).count == 1)
        #expect(problems(entry(search: Fixture.rootUUID, root: "UUID=\(other)")).count == 1)
        // The first entry starts a system on this disk, but no entry starts this system.
        #expect(
            problems(entry(search: Fixture.espUUID, root: "UUID=\(Fixture.swapUUID)"))
                == ["no kernel entry has this system's root by UUID"])
    }

    @Test func resume() {
        let text = entry(
            search: Fixture.rootUUID, root: "UUID=\(Fixture.rootUUID)", more: "resume=UUID=\(other) resume=/dev/sda4")
        #expect(GrubConfiguration(text).lostResume(volumes: Fixture.volumes) == [other])
    }

    @Test func uuidsInsideLoaders() {
        let image = Array("\0\0search.fs_uuid \(Fixture.rootUUID) root \nset prefix=($root)'/boot/grub'\n\0".utf8)
        #expect(GrubConfiguration.searchedUUIDs(in: image) == [Fixture.rootUUID])
        #expect(
            GrubConfiguration.searchedUUIDs(in: Array("search --no-floppy --fs-uuid --set=root 1234-ABCD".utf8)) == [
                "1234-ABCD"
            ])
        #expect(GrubConfiguration.searchedUUIDs(in: Array("search.fs_uuid ".utf8)).isEmpty)
        #expect(GrubConfiguration.searchedUUIDs(in: []).isEmpty)
    }
}
