// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Customization

struct CardNamesTests {
    @Test func findsNamesAndAddresses() {
        #expect(
            CardNames.values(
                in: "auto lo\niface lo inet loopback\niface enp1s0 inet dhcp\n hwaddress ether 52:54:00:AB:cd:ef")
                == ["enp1s0", "52:54:00:ab:cd:ef"])
        #expect(
            CardNames.values(in: "      match:\n        macaddress: \"52:54:00:00:00:01\"\n") == ["52:54:00:00:00:01"])
        #expect(CardNames.values(in: "[Match]\nName=eth0\n") == ["eth0"])
        #expect(
            CardNames.values(in: "interface-name=wlan0\nmac-address=52:54:00:00:00:02\n") == [
                "wlan0", "52:54:00:00:00:02",
            ])
        #expect(CardNames.values(in: "# iface eth9 inet dhcp\n;HWADDR=52:54:00:00:00:03\n").isEmpty)
    }

    /// Files of a foreign system: long lines, links, folders of any size.
    @Test func isBounded() throws {
        let scratch = try ScratchFolder()
        let folder = scratch.path.appending("etc/netplan")
        try Files.makeFolders(folder)
        for number in 0..<200 {
            try Files.write(
                Array("a: 52:54:00:00:00:\(number % 90 + 10)\n".utf8), to: folder.appending("\(number).yaml"))
        }
        try Files.makeLink(folder.appending("0-link.yaml"), to: "/etc/passwd")
        let found = CardNames.found(in: try AnchoredFolder(scratch.path))
        #expect(found.count == 64)
        #expect(CardNames.values(in: String(repeating: "x ", count: 100_000)).isEmpty)
    }
}
