// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import TestSupport
import Testing

@testable import RecoveryInit

@Suite struct KernelCommandLineTests {
    typealias Parameter = KernelCommandLine.Parameter

    /// The result of lib/cmdline.c's next_arg for each line.
    @Test(arguments: [
        ("", []),
        ("quiet", [Parameter("quiet")]),
        ("  a=1\t b \n", [Parameter("a", "1"), Parameter("b")]),
        ("a=\"x y\" b", [Parameter("a", "x y"), Parameter("b")]),
        ("\"a=x y\" b=2", [Parameter("a", "x y"), Parameter("b", "2")]),
        ("\"a b\"", [Parameter("a b")]),
        ("a=x\"y z\"w", [Parameter("a", "x\"y z\"w")]),
        ("a=\"\"", [Parameter("a", "")]),
        ("a=", [Parameter("a", "")]),
        ("a=b=c", [Parameter("a", "b=c")]),
        ("=x", [Parameter("=x")]),
        ("a=\"open end", [Parameter("a", "open end")]),
        (
            "reforge.restore=\"LABEL=My Disk:/a b.img.zst\"",
            [Parameter("reforge.restore", "LABEL=My Disk:/a b.img.zst")]
        ),
    ]) func parsesAsTheKernelDoes(line: String, expected: [Parameter]) {
        #expect(KernelCommandLine.parse(line) == expected)
    }
}

@Suite struct RecoverySettingsTests {
    @Test func readsARestore() throws {
        let settings = try RecoverySettings.parse(
            commandLine:
                "BOOT_IMAGE=/vmlinuz quiet reforge.restore=\"LABEL=My Disk:/a b.img.zst\" reforge.target=size>=20G "
                + "reforge.layout=keep reforge.image_id=00AABBCCDD reforge.verify reforge.finish=poweroff")
        let expected = RecoverySettings(
            job: .restore(
                .init(
                    image: .volume(.label("My Disk"), path: "/a b.img.zst"), target: .atLeast(20 << 30), layout: .keep,
                    imageID: "00aabbccdd", verify: true)), finish: .poweroff)
        #expect(settings == expected)
        let json = """
            {"restore": "LABEL=My Disk:/a b.img.zst", "target": "size>=20G", "layout": "keep", "image-id": "00aabbccdd",
             "verify": true, "finish": "poweroff"}
            """
        #expect(try RecoverySettings.parse(json: Array(json.utf8)) == expected)
    }

    @Test func readsACapture() throws {
        let settings = try RecoverySettings.parse(
            commandLine: "reforge.capture=serial=X1 reforge.to=UUID=AB-12:/i.img.zst")
        #expect(
            settings == RecoverySettings(job: .capture(.serial("X1"), to: .volume(.uuid("AB-12"), path: "/i.img.zst"))))
    }

    @Test func readsAKeyAndARepository() throws {
        let settings = try RecoverySettings.parse(
            commandLine:
                "reforge.capture=only reforge.to=LABEL=A:/r@ reforge.key=http://10.0.2.2:80/k reforge.luks_key=LABEL=A:/l reforge.finish=poweroff"
        )
        #expect(
            settings
                == RecoverySettings(
                    job: .capture(.only, to: .volume(.label("A"), path: "/r@")), finish: .poweroff,
                    key: .http("http://10.0.2.2:80/k"), luksKey: .volume(.label("A"), path: "/l")))
        let json = """
            {"restore": "LABEL=A:/r@host/disk/latest", "target": "only", "key": "LABEL=REFORGE:/key", "boot-repair": false}
            """
        #expect(
            try RecoverySettings.parse(json: Array(json.utf8))
                == RecoverySettings(
                    job: .restore(
                        .init(
                            image: .volume(.label("A"), path: "/r@host/disk/latest"), target: .only, repairsBoot: false)
                    ),
                    key: .volume(.label("REFORGE"), path: "/key")))
    }

    @Test func readsThatTheUnknownIsTrusted() throws {
        func trusts(_ word: String) throws -> Bool? {
            let line = "reforge.restore=LABEL=A:/b reforge.target=only \(word)"
            guard case .restore(let job)? = try RecoverySettings.parse(commandLine: line)?.job else { return nil }
            return job.trustsUnknown
        }
        #expect(try trusts("") == false && trusts("reforge.trust-unknown") == true)
        #expect(try trusts("reforge.trust_unknown=no") == false)
    }

    @Test func readsWhereTheScratchIs() throws {
        func place(_ word: String) throws -> ImageAddress? {
            let line = "reforge.restore=LABEL=A:/b reforge.target=only \(word)"
            guard case .restore(let job)? = try RecoverySettings.parse(commandLine: line)?.job else { return nil }
            return job.scratch
        }
        #expect(try place("") == nil)
        #expect(try place("reforge.scratch=LABEL=A:/") == .volume(.label("A"), path: "/"))
        #expect(try place("reforge.scratch=/dev/sdb1:/a/b/") == .volume(.device("/dev/sdb1"), path: "/a/b/"))
    }

    /// Several sizes are in one text, as a key may occur only once on a command line.
    @Test func readsWishesForPartitions() throws {
        let expected = RecoverySettings(
            job: .restore(
                .init(
                    image: .volume(.label("A"), path: "/b"), target: .only, layout: .keep,
                    partitions: ["3=40GiB", "4=rest", "5=drop"])))
        let line =
            "reforge.restore=LABEL=A:/b reforge.target=only reforge.layout=keep reforge.partition=3=40GiB,4=rest,5=drop"
        #expect(try RecoverySettings.parse(commandLine: line) == expected)
        let json = """
            {"restore": "LABEL=A:/b", "target": "only", "partition": "3=40GiB,4=rest"}
            """
        guard case .restore(let job)? = try RecoverySettings.parse(json: Array(json.utf8)).job else {
            Issue.record("no restore")
            return
        }
        #expect(job.partitions == ["3=40GiB", "4=rest"] && job.layout == nil)
        // A repeated size counts once, as on the command line of `reforge restore`.
        let twice = "reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=2=keep,2=keep"
        #expect(try RecoverySettings.parse(commandLine: twice) != nil)
    }

    @Test func noneIsNotEmpty() throws {
        #expect(try RecoverySettings.parse(commandLine: "quiet root=/dev/sda1 reforgex.a=1") == nil)
        #expect(try RecoverySettings.parse(json: Array("{}".utf8)) == RecoverySettings())
        #expect(try RecoverySettings.parse(commandLine: "reforge.finish=shell") == RecoverySettings(finish: .shell))
    }

    @Test(arguments: [
        ("reforge.restor=x", "restor is not a setting"),
        ("reforge.restore=LABEL=A:/b", "needs reforge.target"),
        ("reforge.target=only", "makes sense with reforge.restore only"),
        ("reforge.capture=only", "needs reforge.to"),
        ("reforge.to=LABEL=A:/b", "makes sense with reforge.capture only"),
        (
            "reforge.restore=LABEL=A:/b reforge.capture=only reforge.target=only reforge.to=LABEL=A:/b",
            "exclude each other"
        ),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.layout=shrink", "not one of keep, grow"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.image-id=xyz", "8 to 64 hexadecimal"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.verify=maybe", "neither yes nor no"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.target=serial=1", "twice"),
        ("reforge.key=LABEL=A:/k", "makes sense with reforge.restore or reforge.capture only"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.key=k", "reforge.key"),
        ("reforge.luks-key=LABEL=A:/k", "makes sense with reforge.restore or reforge.capture only"),
        ("reforge.boot-repair=no", "makes sense with reforge.restore only"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=", "reforge.partition"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=3=1G,,4=rest", "reforge.partition"),
        ("reforge.scratch=LABEL=A:/", "makes sense with reforge.restore only"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.scratch=LABEL=A:/../x", "reforge.scratch"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.scratch=http://h/x", "not a folder on a volume"),
        ("reforge.trust-unknown", "makes sense with reforge.restore only"),
        ("reforge.partition=3=rest", "makes sense with reforge.restore only"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=3=huge", "neither a size such as 40GiB"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=2=keep,3=0", "cannot have 0 bytes"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=rest", "is not a partition's number"),
        ("reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=0=rest", "is not a partition's number"),
        (
            "reforge.restore=LABEL=A:/b reforge.target=only reforge.partition=3=rest,3=drop",
            "reforge.partition: partition 3 cannot be both rest and drop"
        ),
        ("reforge.finish=halt", "not one of reboot, poweroff, shell"),
        ("reforge.restore=ftp://x/y reforge.target=only", "does not name a volume"),
        ("reforge.restore=x reforge.target=only", "not a location"),
        ("reforge.restore=LABEL=A:/b reforge.target=sda", "not a disk selector"),
        ("reforge.capture=only reforge.to=http://h/x", "cannot be sent"),
        ("reforge.=1", "not a setting"),
    ]) func refusesWithTheReason(line: String, reason: String) {
        let error = refusal { () throws(JobFailure) in try RecoverySettings.parse(commandLine: line) }
        #expect(error?.status == .usage)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "accepted")")
    }

    @Test(arguments: [
        ("[]", "not one JSON object"), ("", "not one JSON object"), ("{\"verify\": 3}", "\"verify\" is not a text"),
        ("{\"restore\": {\"a\": 1}}", "\"restore\" is not a text"),
        ("{\"reforge.restore\": \"x\"}", "reforge.restore is not a setting"),
        ("{\"restore\": null}", "not one JSON object"), ("{\"finish\": true}", "finish=yes is not one of"),
        ("{\"partition\": [\"3=rest\"]}", "\"partition\" is not a text"),
        (
            "{\"restore\": \"LABEL=A:/b\", \"target\": \"only\", \"partition\": \"3=huge\"}",
            "partition: \"huge\" is neither a size"
        ),
    ]) func refusesJSON(text: String, reason: String) {
        let error = refusal { () throws(JobFailure) in try RecoverySettings.parse(json: Array(text.utf8)) }
        #expect(error?.status == .usage)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "accepted")")
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func survivesAnything(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let pieces = [
            "reforge.restore=", "reforge.target=", "reforge.capture=", "reforge.to=", "reforge.verify", "\"", " ", "=",
            "LABEL=", "UUID=", "/dev/", ":/", "http://", "[", "]", ":99999", "size>=", "serial=", "only", "..", "{",
            "}", "reforge.partition=", "3=", "40G", "rest",
            "{\"restore\":", ",", "[[[[", "\\u0000", "true",
        ]
        for _ in 0..<3000 {
            let text = hostileText(pieces, using: &random)
            _ = KernelCommandLine.parse(text)
            _ = try? RecoverySettings.parse(commandLine: text)
            _ = try? RecoverySettings.parse(json: Array(text.utf8))
            if let location = try? ImageAddress.parse(setting: text) {
                // An accepted location survives a round trip.
                #expect((try? ImageAddress.parse(setting: location.description)) == location, "seed \(seed): \(text)")
                if case .volume(_, let path) = location { #expect(!path.split(separator: "/").contains("..")) }
            }
            if let selector = try? DiskSelector.parse(text) {
                #expect((try? DiskSelector.parse(selector.description)) == selector, "seed \(seed): \(text)")
            }
            _ = BlockVolume.parseExport(text)
            _ = MediumConsole.names(active: text)
            _ = HTTPStream.statusCode(header: text)
            _ = SupervisorMessage(text)
            _ = SessionRequest(text)
            _ = Menu.choice(text)
            _ = InspectedImage(json: Array(text.utf8))
        }
    }

    @Test func deepJSONIsRefused() {
        let deep = Array(repeating: UInt8(ascii: "["), count: 60_000)
        #expect(refusal { () throws(JobFailure) in try RecoverySettings.parse(json: deep) }?.status == .usage)
        let long = Array("{\"restore\":\"".utf8) + Array(repeating: UInt8(ascii: "a"), count: 70_000)
        #expect(
            refusal { () throws(JobFailure) in try RecoverySettings.parse(json: long) }?.message.contains("65536")
                == true)
    }
}

@Suite struct LocationTests {
    @Test(arguments: [
        ("LABEL=REFORGE:/debian.img.zst", ImageAddress.volume(.label("REFORGE"), path: "/debian.img.zst")),
        ("LABEL=a:b:/c:/d", .volume(.label("a:b"), path: "/c:/d")),
        ("UUID=1234-ABCD:/x/y", .volume(.uuid("1234-ABCD"), path: "/x/y")),
        ("/dev/sdb1:/x", .volume(.device("/dev/sdb1"), path: "/x")),
        ("http://10.0.2.2:8000/x.img.zst", .http("http://10.0.2.2:8000/x.img.zst")),
        ("http://[fe80::1]:80/x", .http("http://[fe80::1]:80/x")), ("HTTP://h/x", .http("HTTP://h/x")),
    ]) func parses(text: String, expected: ImageAddress) throws {
        #expect(try ImageAddress.parse(setting: text) == expected)
        #expect(try ImageAddress.parse(setting: text).description == text)
    }

    @Test(arguments: [
        "", "x", "LABEL=:/x", "LABEL=a", "LABEL=a:x", "LABEL=a:/", "LABEL=a:/x/", "LABEL=a:/../x", "LABEL=a:/x/../y",
        "UUID=x y:/a", "/dev/:/x", "/dev/../etc:/x", "/etc/passwd:/x", "https://h/x", "http://", "http:///x",
        "http://h",
        "http://h/", "http://u:p@h/x", "http://h:0/x", "http://h:65536/x", "http://h:x/y", "http://-o/x",
        "http://h/a b",
        "http://[::1/x", "http://[::1]x/y", "http://h/ä", "LABEL=a:/x\u{0}y", "LABEL=a:/x\ny", "http://h\u{1B}/x",
    ]) func refuses(text: String) {
        #expect(refusal { () throws(JobFailure) in try ImageAddress.parse(setting: text) }?.status == .usage, "\(text)")
    }
}

@Suite struct DiskSelectorTests {
    private static func disk(
        _ name: String, _ gibibytes: UInt64, serial: String? = nil, wwn: String? = nil, place: String? = nil,
        removable: Bool = false, _ exclusion: DiskCandidate.Exclusion? = nil
    ) -> DiskCandidate {
        DiskCandidate(
            identity: DiskIdentity(
                path: "/dev/\(name)", kernelName: name, serial: serial, wwn: wwn, pathByPlace: place),
            byteCount: gibibytes << 30, isRemovable: removable, exclusion: exclusion)
    }
    private static let disks = [
        disk("sda", 100, serial: " ABC 1 ", wwn: "naa.50014EE2", place: "pci-0000:00:1f.2-ata-1"),
        disk("sdb", 32, serial: "STICK", .medium), disk("nvme0n1", 500, serial: "TWIN", wwn: "eui.0025-38"),
        disk("nvme1n1", 500, serial: "TWIN", .image),
    ]

    @Test(arguments: [
        ("serial=ABC 1", "/dev/sda"), ("wwn=0x50014ee2", "/dev/sda"), ("wwn=naa.50014EE2", "/dev/sda"),
        ("wwn=002538", "/dev/nvme0n1"), ("path=pci-0000:00:1f.2-ata-1", "/dev/sda"),
        ("path=/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "/dev/sda"), ("size>=200G", "/dev/nvme0n1"),
    ]) func choosesOne(text: String, path: String) throws {
        #expect(try DiskSelector.parse(text).choose(from: Self.disks).identity.path == path)
    }

    @Test(arguments: [
        ("serial=abc 1", 78, "no disk matches"), ("serial=TWIN", 78, "2 disks match"),
        ("serial=STICK", 77, "recovery medium is on it"),
        ("size>=1T", 78, "no disk matches"), ("size>=30G", 78, "2 disks match"), ("only", 78, "2 disks match"),
        ("path=pci-0", 78, "no disk matches"),
    ]) func refuses(text: String, status: Int32, reason: String) throws {
        let selector = try DiskSelector.parse(text)
        let error = refusal { () throws(JobFailure) in try selector.choose(from: Self.disks) }
        #expect(error?.status.rawValue == status)
        #expect(error?.message.contains(reason) == true, "\(error?.message ?? "chosen")")
        if status == 78 { #expect(error?.message.contains("/dev/sda") == true) }
    }

    @Test func onlyIsTheOnlyOne() throws {
        #expect(try DiskSelector.only.choose(from: Array(Self.disks[0...1])).identity.path == "/dev/sda")
        #expect(
            refusal { () throws(JobFailure) in try DiskSelector.only.choose(from: [Self.disks[1]]) }?.status
                == .ambiguous)
        #expect(refusal { () throws(JobFailure) in try DiskSelector.only.choose(from: []) }?.status == .ambiguous)
    }

    /// A stick or a backup disk must not replace a missing or late internal disk.
    @Test(arguments: ["only", "size>=30G"]) func aRemovableDiskIsNotTakenUnasked(text: String) throws {
        let backup = Self.disk("sdc", 4000, serial: "BACKUP", removable: true)
        let selector = try DiskSelector.parse(text)
        for reading in [false, true] {
            let error = refusal { () throws(JobFailure) in
                try selector.choose(from: [backup, Self.disks[1]], reading: reading)
            }
            #expect(error?.status == .ambiguous && error?.message.contains("only-removable") == true)
        }
        #expect(try selector.choose(from: [Self.disks[0], backup]).identity.path == "/dev/sda")
        #expect(try DiskSelector.parse("only-removable").choose(from: Self.disks + [backup]) == backup)
        #expect(try DiskSelector.parse("serial=BACKUP").choose(from: Self.disks + [backup]) == backup)
    }

    @Test func anOpenAnswerMustStayTheSame() throws {
        let (early, late) = (Self.disks[0], Self.disks[2])
        func answer(_ looks: [[DiskCandidate]], _ selector: DiskSelector = .only) -> (String?, Int32?) {
            var steady = SteadyDisk(selector, reading: false)
            for disks in looks { steady.look(at: disks) }
            do { return (try steady.choose(from: looks.last ?? []).identity.path, nil) } catch {
                return (nil, error.status.rawValue)
            }
        }
        #expect(answer([[early], [early]]) == ("/dev/sda", nil))
        #expect(answer([[early], [early], [early, late]]) == (nil, 78))
        // A disk that appeared and disappeared, and a disk that replaced the other.
        #expect(answer([[early], [early, late], [early]]) == (nil, 78))
        #expect(answer([[early], [late]]) == (nil, 78))
        #expect(answer([[early], []]) == (nil, 78))
        // Non-matching disks are ignored.
        #expect(answer([[late], [early, late]], .atLeast(200 << 30)) == ("/dev/nvme0n1", nil))
        // The same name, another disk: the kernel's sequence number differs.
        var again = early
        again.identity.diskSequence = 7
        #expect(answer([[early], [again]]) == (nil, 78))
    }

    @Test func theMediumMayBeReadWhereItIsNamed() throws {
        #expect(try DiskSelector.serial("STICK").choose(from: Self.disks, reading: true).identity.path == "/dev/sdb")
        let image = DiskSelector.node("/dev/nvme1n1")
        #expect(
            refusal { () throws(JobFailure) in try image.choose(from: Self.disks, reading: true) }?.status == .refused)
    }

    @Test(arguments: [
        "", "sda", "serial=", "serial= ", "wwn=0x", "path=", "path=a/b", "size>=", "size>=1X", "size>=99999999T",
        "size>1G", "ONLY",
    ])
    func refusesText(text: String) {
        #expect(refusal { () throws(JobFailure) in try DiskSelector.parse(text) }?.status == .usage)
    }

    @Test func namesFromDevicesCannotSteerATerminal() {
        let evil = Self.disk("sda", 1, serial: "\u{1B}[2J\u{7}x\u{202E}y\n")
        #expect(!evil.line.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x202E })
    }

    @Test(
        arguments: [("512", 512), ("64k", 65536), ("1M", 1 << 20), ("20GiB", 20 << 30), ("2tib", 2 << 40), ("7B", 7)]
            as [(String, UInt64)])
    func sizes(text: String, expected: UInt64) { #expect(SizeText.parse(text) == expected) }
}

/// The firmware of restored disks, in settings and in the menu.
@Suite struct FirmwareSettingsTests {
    private let base = "reforge.restore=LABEL=X:/a.img.zst reforge.target=serial=T"

    @Test func settingsNameAFirmware() throws {
        for (text, choice) in [
            ("", FirmwareChoice.keep), (" reforge.firmware=uefi", .uefi), (" reforge.firmware=auto", .auto),
        ] {
            guard case .restore(let restore) = try RecoverySettings.parse(commandLine: base + text)?.job else {
                Issue.record("no restore: \(text)")
                continue
            }
            #expect(restore.firmware == choice)
        }
        for wrong in [" reforge.firmware=efi", " reforge.firmware=uefi reforge.boot-repair=no"] {
            #expect(throws: JobFailure.self) { try RecoverySettings.parse(commandLine: base + wrong) }
        }
    }

    @Test func theMenuAsksWhereTheFirmwareDiffers() {
        let bios = BootSurvey(biosBootCode: "GRUB", biosCoreImageFound: true)
        let uefi = BootSurvey(efiLoaders: [#"\EFI\debian\grubx64.efi"#])
        let both = BootSurvey(biosBootCode: "GRUB", biosCoreImageFound: true, efiLoaders: [#"\EFI\debian\grubx64.efi"#])
        func question(_ boot: BootSurvey, isUEFI: Bool) -> Menu.FirmwareQuestion? {
            Menu.firmwareQuestion(
                boot, startsByBIOS: boot.startsByBIOS(from: .mbr, attributes: []), isUEFI: isUEFI)
        }
        #expect(question(bios, isUEFI: true)?.answers.map(\.choice) == [.auto, .keep])
        #expect(question(uefi, isUEFI: false)?.answers.map(\.choice) == [.auto, .keep])
        #expect(question(bios, isUEFI: false) == nil)
        #expect(question(uefi, isUEFI: true) == nil)
        for isUEFI in [true, false] {
            #expect(question(both, isUEFI: isUEFI) == nil)
            #expect(question(BootSurvey(), isUEFI: isUEFI) == nil)
        }
    }

    /// parted writes code that only prints a message into the protective MBR of each GPT.
    @Test func theMessageOfAProtectiveMBRIsNoLoader() throws {
        func image(_ kind: String, _ attributes: UInt64) -> InspectedImage? {
            let json = """
                {"boot": {"biosBootCode": "other", "efiLoaders": ["\\\\EFI\\\\debian\\\\grubx64.efi"]},
                "table": {"kind": "\(kind)"}, "volumes": [{"attributes": \(attributes)}, {"offset": 512}]}
                """
            return InspectedImage(json: Array(json.utf8))
        }
        for (kind, attributes, starts) in [("gpt", 0, false), ("gpt", 4, true), ("mbr", 0, true)] {
            let found = try #require(image(kind, UInt64(attributes)))
            #expect(found.startsByBIOS == starts, "\(kind) \(attributes)")
            let boot = try #require(found.boot)
            #expect(
                (Menu.firmwareQuestion(boot, startsByBIOS: found.startsByBIOS, isUEFI: false) != nil) == !starts)
        }
    }
}
