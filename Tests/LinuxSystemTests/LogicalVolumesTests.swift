// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import LinuxSystem

@Suite struct LogicalVolumesTests {
    /// Output of LVM 2.03.16 in a virtual machine.
    static let pvs = """
          /dev/vda2|vg0|1048576|230|4194304|130|966787072|1
          /dev/vdb||0|0|||1073741824|1

        """
    static let lvs = """
          xQ93Mu-p4CL|vg0|free|-wi-a-----|104857600|linear|0|104857600||253|2||/dev/vda2(75)
          cG4V5V-fnhW|vg0|reforge-snap-1|sri-a-s---|83886080|linear|0|83886080|root|253|5|reforge,reforge.1.2.aaa-bbb|/dev/vda2(100)
          DmqGfW-yOEF|vg0|root|owi-aos---|209715200|linear|104857600|104857600||253|0||/dev/vdb(0)
          DmqGfW-yOEF|vg0|root|owi-aos---|209715200|linear|0|104857600||253|0||/dev/vda2(0)
          Str1pe-AAAA|vg0|wide|-wi-a-----|209715200|striped|0|209715200||-1|-1||/dev/vda2(0),/dev/vdb(7)

        """

    @Test func whatLVMSays() throws {
        let lvm = try LogicalVolumes.parse(pvs: Self.pvs, lvs: Self.lvs)
        let first = try #require(lvm.physicalVolumes.first)
        #expect(first.path == "/dev/vda2" && first.group == "vg0" && first.dataStart == 1 << 20)
        #expect(first.extentCount == 230 && first.extentByteCount == 4 << 20 && first.groupFreeExtentCount == 130)
        #expect(lvm.physicalVolumes.last?.group == "" && lvm.physicalVolumes.last?.extentByteCount == 0)
        #expect(lvm.volumes.map(\.fullName) == ["vg0/free", "vg0/reforge-snap-1", "vg0/root", "vg0/wide"])
        let root = lvm.volumes[2]
        #expect(root.isOpen && root.isActive && root.isLinear && !root.isSnapshot)
        #expect(root.segments.map(\.start) == [0, 104_857_600])
        #expect(
            root.segments.map(\.places) == [
                [.init(device: "/dev/vda2", extent: 0)], [.init(device: "/dev/vdb", extent: 0)],
            ])
        #expect(root.deviceNumber?.major == 253 && root.deviceNumber?.minor == 0)
        let snapshot = lvm.volumes[1]
        #expect(snapshot.isSnapshot && !snapshot.isLinear && snapshot.origin == "root" && !snapshot.isOpen)
        #expect(snapshot.tags == ["reforge", "reforge.1.2.aaa-bbb"])
        #expect(lvm.volumes[3].deviceNumber == nil && !lvm.volumes[3].isLinear)
        #expect(lvm.volumes[3].segments[0].places.count == 2)
    }

    @Test func nonsenseIsRefused() {
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(pvs: "WARNING: nothing\n", lvs: "") }
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(pvs: "a|b|-1|2|3|4|5|6", lvs: "") }
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(pvs: "", lvs: "a|b|c") }
        // A volume with a gap.
        let hole = "u|g|n|-wi-a-----|8|linear|4|4||253|2||/dev/a(0)"
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(pvs: "", lvs: hole) }
        let huge = """
            u|g|n|-wi-a-----|8|linear|0|18446744073709551615||253|2||/dev/a(0)
            u|g|n|-wi-a-----|8|linear|18446744073709551615|4||253|2||/dev/a(0)
            """
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(pvs: "", lvs: huge) }
    }

    /// LVM's states of a good snapshot, of one that had just overflowed, and of other unusable ones.
    @Test func statesOfSnapshots() throws {
        let states = try LogicalVolumes.parse(
            states: """
                  vg0|good|sri-a-s---|0.64|
                  vg0|full|sri-I-s---|100.00|snapshot invalid
                  vg0|brim|sri-a-s---|100.00|
                  vg0|odd|sri-XXs---||unknown
                  vg0|gone|sri---s---||unknown
                """)
        #expect(states.filter { !$0.isInvalid }.map(\.fullName) == ["vg0/good"])
        #expect(states.count == 5)
        #expect(throws: LogicalVolumeError.self) { try LogicalVolumes.parse(states: "what?") }
    }

    @Test func tagsTellProcesses() throws {
        let own = ProcessTag.own()
        #expect(own.isAlive)
        #expect(try #require(ProcessTag(own.text)) == own)
        // LVM's tags allow only these characters, and 1024 of them.
        #expect(own.text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_+.-".contains($0)) })
        #expect(ProcessTag("reforge") == nil && ProcessTag("reforge.x.1.b") == nil && ProcessTag("a.1.2.b") == nil)
        var parts = own.text.split(separator: ".").map(String.init)
        parts[2] = "1"
        let other = try #require(ProcessTag(parts.joined(separator: ".")))
        #expect(!other.isAlive, "the number was used again")
        parts = own.text.split(separator: ".").map(String.init)
        parts[3] = "another-boot"
        #expect(ProcessTag(parts.joined(separator: "."))?.isAlive == false)
    }
}
