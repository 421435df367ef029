// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Testing

@testable import Repository

@Suite struct SnapshotNamesTests {
    private func table(_ kind: PartitionTable.Kind, guid: GUID? = nil, signature: UInt32? = nil) -> PartitionTable {
        var table = PartitionTable(kind: kind, usable: 0..<1 << 20, entryCount: 4, partitions: [])
        table.diskGUID = guid
        table.diskSignature = signature
        return table
    }

    private func filesystem(_ uuid: String?) -> FilesystemInfo {
        var info = FilesystemInfo(kind: .ext4, kindName: "ext4", mapSource: .allocationStructures)
        info.uuid = uuid
        return info
    }

    private func name(
        _ table: PartitionTable, _ uuids: [String?] = [], serial: String? = nil, wwn: String? = nil,
        transport: String = "sata", place: String = "/vm/a/disk.raw"
    ) -> String {
        SnapshotNames.disk(
            DiskIdentity(path: "disk.raw", serial: serial, wwn: wwn, transport: transport), table: table,
            filesystems: uuids.map(filesystem), place: place)
    }

    @Test func disksGoByWhatTellsThemApart() throws {
        let guid = GUID.random()
        #expect(name(table(.gpt, guid: guid), serial: "S3 X/1", wwn: "naa.5") == "S3-X-1")
        #expect(name(table(.gpt, guid: guid), wwn: "naa.5") == "naa.5")
        // By USB the number may be that of a dock, the same for every disk in it.
        let docked = name(table(.gpt, guid: guid), serial: "DOCK1", transport: "usb")
        #expect(docked.hasPrefix("DOCK1-"))
        #expect(docked != name(table(.gpt, guid: .random()), serial: "DOCK1", transport: "usb"))
        #expect(name(table(.none), serial: "STICK1", transport: "usb") == "STICK1")
        // The default serial number of QEMU.
        #expect(name(table(.gpt, guid: guid), serial: "QM00001") == "gpt-\(guid)")
        #expect(name(table(.gpt, guid: guid), serial: "QM00XY1") == "QM00XY1")
        #expect(name(table(.gpt, guid: guid)) == "gpt-\(guid)")
        #expect(name(table(.gpt, guid: guid), place: "/elsewhere") == "gpt-\(guid)")
        // A signature is 32 bits, and copied by many tools: filesystems count with it, in any order.
        let mbr = table(.mbr, signature: 0x1234)
        #expect(name(mbr) == "mbr-00001234")
        let one = name(mbr, ["a", "b"])
        #expect(one.hasPrefix("mbr-00001234-") && one == name(mbr, ["b", nil, "a"], place: "/elsewhere"))
        #expect(
            one != name(mbr, ["a", "c"])
                && name(table(.mbr, signature: 0), ["a"]) != name(table(.mbr, signature: 0), ["b"]))
        #expect(name(table(.none), ["6f3c"]) == "fs-6f3c")
        // No identity: the file name alone would not be one either.
        for blank in [table(.none), table(.unknown), table(.gpt, guid: .zero), table(.gpt), table(.mbr, signature: 0)] {
            let here = name(blank)
            #expect(here.hasPrefix("disk.raw-") && here != name(blank, place: "/vm/b/disk.raw"))
        }
        for text in [one, name(table(.none)), "gpt-\(guid)"] { #expect(SnapshotNames.isValid(text)) }
    }

    @Test func namesAreTakenOrRefused() {
        for name in ["web1", "web.example.org", "Büro Süd", "主机", "мир", "a@b", "x,y;z", "é", "🖥"] {
            #expect(SnapshotNames.isValid(name), "\(name)")
        }
        for name in [
            "", " ", "a/b", "/", " a", "a ", "a  b", "a\tb", "a\nb", "a\u{0}b", "a\u{202E}b", "a\u{200B}b",
            "a\u{A0}b", "a\u{2028}b", "a\u{E000}", "a\u{FFFD}", String(repeating: "x", count: 256),
        ] {
            #expect(!SnapshotNames.isValid(name), "\(name.debugDescription)")
        }
    }
}
