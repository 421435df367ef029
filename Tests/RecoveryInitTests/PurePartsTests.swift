// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FoundationEssentials
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

@Suite struct BlockVolumeTests {
    private static func volume(
        _ node: String, _ disk: String, _ type: String, label: String? = nil, uuid: String? = nil
    ) -> BlockVolume {
        BlockVolume(node: node, disk: disk, type: type, label: label, uuid: uuid, byteCount: 1 << 30)
    }

    /// Two disks may hold copies of one volume: a UUID would name both.
    @Test func aCopyIsNamedByItsNode() {
        let volumes = [
            Self.volume("sda1", "sda", "ntfs", uuid: "57A0"), Self.volume("sdb1", "sdb", "ntfs", uuid: "57a0"),
            Self.volume("sdc", "sdc", "iso9660", uuid: "1"), Self.volume("sdc1", "sdc", "iso9660", uuid: "1"),
            Self.volume("sdd1", "sdd", "ext4", uuid: "2"), Self.volume("sde1", "sde", "xfs"),
        ]
        #expect(
            volumes.map { $0.locationName(among: volumes) } == [
                .device("/dev/sda1"), .device("/dev/sdb1"), .uuid("1"), .uuid("1"), .uuid("2"), .device("/dev/sde1"),
            ])
    }

    @Test func readsBlkid() {
        // As util-linux 2.38 prints it for `mkfs.ext4 -L 'MY D$k"x'`.
        let fields = BlockVolume.parseExport(
            "DEVNAME=/dev/vda\nLABEL=MY\\ D\\$k\\\"x\nUUID=cdd1-61\nTYPE=ext4\nTYPE=vfat\nrubbish\n=x\nlower=1\n")
        #expect(fields == ["DEVNAME": "/dev/vda", "LABEL": "MY D$k\"x", "UUID": "cdd1-61", "TYPE": "ext4"])
    }

    @Test func choosesByName() throws {
        let volumes = [
            Self.volume("sda1", "sda", "ext4", label: "root", uuid: "AA-1"),
            Self.volume("sdb1", "sdb", "vfat", label: "root"),
            Self.volume("sr0", "sr0", "iso9660", label: "REFORGE", uuid: "X"),
            Self.volume("sdc", "sdc", "iso9660", label: "ISO", uuid: "Y"),
            Self.volume("sdc1", "sdc", "iso9660", label: "ISO", uuid: "Y"),
        ]
        #expect(try BlockVolume.choose(.uuid("aa-1"), from: volumes).node == "sda1")
        #expect(try BlockVolume.choose(.device("/dev/sdb1"), from: volumes).node == "sdb1")
        #expect(try BlockVolume.choose(.label("ISO"), from: volumes).node == "sdc")
        #expect(
            refusal { () throws(JobFailure) in try BlockVolume.choose(.label("root"), from: volumes) }?.status
                == .ambiguous)
        #expect(
            refusal { () throws(JobFailure) in try BlockVolume.choose(.label("none"), from: volumes) }?.status
                == .notFound)
    }

    @Test func mediumIsOneVolumeOnly() {
        let stick = Self.volume("sdb3", "sdb", "exfat", label: "REFORGE")
        let esp = Self.volume("sdb2", "sdb", "vfat", label: "REFORGEBOOT")
        let copy = Self.volume("sdc3", "sdc", "exfat", label: "REFORGE")
        let one = Medium.decide(carriers: [esp, stick])
        #expect(one.disks == ["sdb"] && one.volume == stick && one.problem == nil)
        let two = Medium.decide(carriers: [stick, copy])
        #expect(two.disks == ["sdb", "sdc"] && two.volume == nil && two.problem != nil)
        let hybrid = [
            Self.volume("sdd", "sdd", "iso9660", label: "REFORGE"),
            Self.volume("sdd1", "sdd", "iso9660", label: "REFORGE"),
        ]
        #expect(Medium.decide(carriers: hybrid).volume == hybrid[0])
        #expect(Medium.decide(carriers: []).volume == nil)
        #expect(Medium.checkedBuildID(" 38B51916ac18\n") == "38b51916ac18")
        #expect(Medium.checkedBuildID("") == nil && Medium.checkedBuildID("xyz45678") == nil)
    }
}

@Suite struct HardwareTests {
    @Test func batchesStayBelowTheirLimits() {
        let names = (0..<1000).map { "pci:v\($0)" } + ["-rf", "", "a b", "x\u{7}"]
        let batches = HardwareModules.batches(names, byteLimit: 200, countLimit: 17)
        #expect(batches.flatMap { $0 } == Array(names.prefix(1000)))
        #expect(batches.allSatisfy { $0.count <= 17 && $0.reduce(0) { $0 + $1.utf8.count + 1 } <= 200 })
        #expect(HardwareModules.batches([]).isEmpty)
        #expect(HardwareModules.batches(["very-long"], byteLimit: 3) == [["very-long"]])
    }

    @Test func findsModaliasesAndFollowsNoLinks() throws {
        let folder = try TemporaryFolder()
        try Files.makeFolders(folder.file("pci0/dev1"))
        try Files.write(Array("pci:v1\n".utf8), to: folder.file("pci0/modalias"))
        try Files.write(Array("usb:v2\n".utf8), to: folder.file("pci0/dev1/modalias"))
        try Files.makeLink(folder.file("pci0/dev1/loop"), to: "..")
        #expect(HardwareModules.modaliases(below: folder.path) == ["pci:v1", "usb:v2"])
    }

    @Test func findsCards() throws {
        let folder = try TemporaryFolder()
        try Files.makeFolders(folder.file("mmc0:4567"))
        try Files.write(
            Array("MMC_TYPE=SD\nMMC_NAME=QEMU!\nMODALIAS=mmc:block\n".utf8), to: folder.file("mmc0:4567/uevent"))
        #expect(HardwareModules.cardModaliases(in: folder.path) == ["mmc:block"])
        #expect(HardwareModules.cardModaliases(in: folder.path.appending("none")).isEmpty)
    }

    @Test(
        arguments: [
            (0.5, 0.5, 1, nil, false), (1.5, 1.2, 1, nil, true), (1.5, 0.2, 1, nil, false), (5, 5, 0, nil, false),
            (10, 10, 0, nil, true),
            (5, 5, 1, false, false), (30, 30, 1, false, true), (5, 5, 1, true, true), (30, 0, 0, nil, true),
        ] as [(Double, Double, Int, Bool?, Bool)]) func settles(
            elapsed: Double, news: Double, disks: Int, wanted: Bool?, over: Bool
        )
    {
        #expect(SettleRule().isOver(elapsed: elapsed, sinceNews: news, diskCount: disks, wantedIsThere: wanted) == over)
    }

    @Test func routes() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\n"
        #expect(!Network.hasRoute("") && !Network.hasRoute(header))
        #expect(Network.hasRoute(header + "eth0\t00000000\t0202000A\t0003\t0\n"))
        #expect(!Network.hasRoute(header + "eth0\t00000000\t0202000A\t0000\t0\nx\n"))
    }
}

@Suite struct BootStepTests {
    @Test func stepsComeInTheirOrder() {
        let steps = BootStep.all(for: .init(commandLine: "console=ttyS0", hostName: "reforge")).map(\.description)
        let wanted = [
            "mount proc on /proc", "mount sysfs on /sys", "mount devtmpfs on /dev", "mount devpts on /dev/pts",
            "mount tmpfs on /tmp",
            "mount tmpfs on /run", "create /run/reforge/volumes", "mount efivarfs on /sys/firmware/efi/efivars",
            "set /proc/sys/kernel/printk to 4", "set /proc/sys/kernel/hostname to reforge",
        ]
        let places = wanted.map { steps.firstIndex(of: $0) ?? -1 }
        #expect(!places.contains(-1) && places == places.sorted(), "\(steps)")
    }

    @Test func kernelMessagesStayWhereTheyWereAskedFor() {
        for line in ["loglevel=7", "debug", "a ignore_loglevel b"] {
            let steps = BootStep.all(for: .init(commandLine: line, hostName: ""))
            #expect(!steps.contains { $0.description.contains("printk") || $0.description.contains("hostname") })
        }
    }

    @Test func consolesByName() {
        #expect(MediumConsole.names(active: "tty0 ttyS0\n") == ["tty0", "ttyS0"])
        #expect(MediumConsole.names(active: "../x ttyS0 ttyS0 hvc0") == ["ttyS0", "hvc0"])
        #expect(MediumConsole.names(active: "").isEmpty)
    }
}

@Suite struct MessageTests {
    @Test(arguments: [
        SupervisorMessage.line(console: "ttyS0", text: "5"), .line(console: "tty0", text: ""),
        .line(console: "tty0", text: "a  b "),
        .shellEnded(console: "hvc0"),
    ]) func messagesSurviveTheWire(message: SupervisorMessage) {
        #expect(SupervisorMessage(message.encoded) == message)
    }

    @Test func requestsSurviveTheWire() {
        for request in [SessionRequest.shell(console: nil), .shell(console: "ttyS0")] {
            #expect(SessionRequest(request.encoded) == request)
        }
        #expect(
            SessionRequest("shell") == nil && SessionRequest("reboot now") == nil && SupervisorMessage("line x") == nil)
    }

    @Test func aTypedLineIsOneLine() {
        #expect(!SupervisorMessage.line(console: "a", text: "x\nshell-ended b").encoded.contains("\n"))
    }

    @Test func linesAreWhole() {
        var splitter = LineSplitter()
        #expect(splitter.add(Array("ab".utf8)) == [])
        #expect(splitter.add(Array("c\r\nd\n\ne".utf8)) == ["abc", "d", ""])
        #expect(splitter.add(Array(repeating: 65, count: 200_000) + [10]).first?.utf8.count == LineSplitter.limit)
    }

    @Test func standIn() {
        #expect(
            StandInAnswer(" ") == .shell && StandInAnswer("Reboot") == .end(.reboot) && StandInAnswer("menu") == .menu
                && StandInAnswer("x") == nil)
    }
}

@Suite struct MenuTests {
    @Test func numbersAndWords() {
        #expect(Menu.choice("1") == .restore && Menu.choice("8") == .powerOff && Menu.choice("Shell") == .shell)
        for bad in ["", "0", "9", "-1", "1x", "99999999999999999999", "restore now"] {
            #expect(Menu.choice(bad) == nil)
        }
        #expect(Menu.number("1", of: 0) == nil && Menu.number("2", of: 2) == 1)
    }

    @Test func everyChoiceIsOnTheScreen() {
        let text = Menu.text(images: [], disks: [])
        for choice in Menu.choices(hasDoneJob: false) { #expect(text.contains(choice.title)) }
        #expect(!text.contains(Menu.Choice.repeatJob.title) && Menu.choice("9") == nil && Menu.choice("job") == nil)
        let again = Menu.text(images: [], disks: [], doneJob: "restore of A")
        #expect(again.contains("9  \(Menu.Choice.repeatJob.title)") && again.contains("restore of A"))
        #expect(Menu.choice("9", hasDoneJob: true) == .repeatJob)
        #expect(text.contains("There are no disks.") && text.contains("No images"))
    }

    @Test func confirmation() {
        let disk = DiskIdentity(path: "/dev/sda", kernelName: "sda", serial: " S1 ")
        #expect(Menu.confirms("S1", disk) && Menu.confirms("sda", disk) && Menu.confirms("/dev/sda", disk))
        #expect(!Menu.confirms("", disk) && !Menu.confirms("s1", disk) && !Menu.confirms("sdb", disk))
        #expect(!Menu.confirms("", DiskIdentity(path: "/dev/sda", kernelName: "sda", serial: "  ")))
    }

    @Test func imageNames() {
        let name = Menu.imageName(
            for: DiskIdentity(path: "/dev/sda", kernelName: "sda", model: "WD ../Blue\u{7}"),
            utc: "2026-11-22T15:04:05Z")
        #expect(name == "WD-Blue-20261122T150405Z.img.zst")
        #expect(SavedLog.name(unixSeconds: 0, unique: "ab") == "reforge-19700101T000000Z-ab.log")
    }

    @Test func imagesAreFoundTwoFoldersDeep() throws {
        let folder = try TemporaryFolder()
        try Files.makeFolders(folder.file("a/b/c"))
        for name in [
            "x.img.zst", "a/Y.IMG.ZST", "a/b/z.img.zst.000", "a/b/c/deep.img.zst", "notes.txt", ".hidden.img.zst",
            "a/z.img.zst.001",
        ] {
            try Files.write([1], to: folder.file(name))
        }
        try Files.makeLink(folder.file("link.img.zst"), to: "/etc/passwd")
        #expect(ImageListing.paths(below: folder.path) == ["x.img.zst", "a/Y.IMG.ZST", "a/b/z.img.zst.000"])
        // A repository is one thing: its contents are not listed.
        try Files.makeFolders(folder.file("a/b/repo/snapshots"))
        try Files.write([1], to: folder.file("a/b/repo/repository.json"))
        try Files.write([1], to: folder.file("a/b/repo/x.img.zst"))
        #expect(
            ImageListing.paths(below: folder.file("a")) == [
                "Y.IMG.ZST", "b/z.img.zst.000", "b/c/deep.img.zst", "b/repo@",
            ])
        #expect(ImageListing.paths(below: folder.file("a/b/repo")) == ["@"])
        let found = FoundImage(location: .volume(.label("A"), path: "/b/repo@"), byteCount: 0)
        #expect(found.isRepository && found.line.contains("repository"))
    }
}

@Suite struct JobTests {
    private static let disk = DiskCandidate(
        identity: DiskIdentity(path: "/dev/nvme0n1", kernelName: "nvme0n1"), byteCount: 1)

    static func restore(_ file: JobFile) throws -> JobModel.RestoreJob {
        guard case .restore(let job) = file.job else { throw JobFailure(.usage, "no restore") }
        return job
    }

    @Test func jobsOfARestore() throws {
        let settings = RecoverySettings.Restore(
            image: .http("http://h/x"), target: .only, layout: .grow, imageID: "0011aabb", verify: true)
        var wanted = JobModel.RestoreJob(image: "-", disk: "/dev/nvme0n1")
        (wanted.isConfirmed, wanted.layout, wanted.verifies, wanted.expectedImageID) = (true, "grow", true, "0011aabb")
        #expect(
            RestoreJob.job("-", settings, Self.disk, confirmed: true, streamed: true) == JobFile(.restore(wanted)))
        var plain = RecoverySettings.Restore(image: .http("http://h/x"), target: .only)
        wanted = JobModel.RestoreJob(image: "/i", disk: "/dev/nvme0n1")
        wanted.dryRun = true
        #expect(
            RestoreJob.job("/i", plain, Self.disk, confirmed: false, streamed: false) == JobFile(.restore(wanted)))
        plain.trustsUnknown = true
        (wanted.dryRun, wanted.isConfirmed, wanted.trustsUnknown) = (false, true, true)
        #expect(
            RestoreJob.job("/i", plain, Self.disk, confirmed: true, streamed: false) == JobFile(.restore(wanted)))
    }

    /// Volumes with sparse files first, and no read-only ones.
    @Test func volumesForAScratch() {
        func volume(_ node: String, _ type: String) -> BlockVolume {
            BlockVolume(node: node, disk: node, type: type, byteCount: 1)
        }
        let volumes = [
            volume("a", "exfat"), volume("b", "iso9660"), volume("c", "ext4"), volume("a", "exfat"),
            volume("d", "crypto_LUKS"), volume("e", "btrfs"),
        ]
        #expect(RestoreJob.scratchVolumes(volumes).map(\.node) == ["c", "e", "a"])
    }

    @Test func jobsWithAPassword() throws {
        let settings = RecoverySettings.Restore(image: .http("http://h/x"), target: .only, repairsBoot: false)
        func job(_ password: FilePath? = nil, _ luks: FilePath? = nil, _ scratch: FilePath? = nil) -> JobFile {
            RestoreJob.job(
                "r@x", settings, Self.disk, password: password, luksKey: luks, scratch: scratch, confirmed: true,
                streamed: false)
        }
        #expect(job("/run/p").passwordFile == "/run/p")
        #expect(try Self.restore(job("/run/p")).repairsBoot == false)
        #expect(try Self.restore(job(nil, "/run/l")).luksKeyFiles == ["/run/l"])
        #expect(try Self.restore(job(nil, nil, "/v/s")).scratch == "/v/s")
        func capture(_ place: String, _ password: FilePath?, _ luks: FilePath? = nil) throws -> (CaptureJob, String?) {
            let file = JobRunner.captureJob(Self.disk, place, password: password, luksKey: luks)
            guard case .capture(let job) = file.job else { throw JobFailure(.usage, "no capture") }
            #expect(job.disk == "/dev/nvme0n1" && job.image == place)
            return (job, file.passwordFile)
        }
        #expect(try capture("/v/r@", nil, "/run/l").0.luksKeyFiles == ["/run/l"])
        #expect(try !capture("/v/r@", nil).0.encrypts)
        let repository = try capture("/v/r@", "/run/p")
        #expect(!repository.0.encrypts && repository.1 == "/run/p")
        let image = try capture("/v/i.img.enc", "/run/p")
        #expect(image.0.encrypts && image.1 == "/run/p")
    }

    /// The session reports the disk state stated by the restore, never a guess.
    @Test func theReportSaysHowTheDiskIs() {
        func text(_ status: JobModel.ExitStatus, _ state: DiskState?, ended: Int32? = nil) -> String {
            let report = Report(operation: "restore", outcome: Outcome(status, diskState: state))
            return JobModel.ExitStatus.restoreOutcome(
                JobEnd(status: ended ?? status.rawValue, report: report), disk: "/dev/sda")
        }
        for status in JobModel.ExitStatus.allCases where ![.done, .incomplete].contains(status) {
            #expect(text(status, .untouched).contains("/dev/sda is untouched"), "\(status)")
            #expect(text(status, .partial).contains("partial"), "\(status)")
            #expect(!text(status, .partial).contains("untouched"), "\(status)")
        }
        #expect(text(.done, .complete).contains("is complete"))
        // Killed, or crashed after its last event.
        #expect(text(.done, .complete, ended: 139).contains("Treat /dev/sda as partial"))
        let silent = JobEnd(status: 137)
        #expect(ExitStatus.restoreOutcome(silent, disk: "/dev/sda").contains("Treat /dev/sda as partial"))
    }

    @Test func onlyTheLastEventIsAReport() throws {
        let report = Report(operation: "restore", outcome: Outcome(.done, diskState: .complete))
        let line = try JSONEncoder().encode(Event.finished(report))
        #expect(FollowedJob.report([UInt8](line)) == report)
        #expect(FollowedJob.report([UInt8](try JSONEncoder().encode(Event.log("x")))) == nil)
        for odd in ["", "x", "{}", "{\"schema\":1,\"event\":\"later\"}", "{\"schema\":1,\"event\":\"finished\"}"] {
            #expect(FollowedJob.report(Array(odd.utf8)) == nil, "\(odd)")
        }
    }

    @Test func snapshotsInPaths() {
        #expect(ImageAddress.splits("/a.img.zst").isEmpty)
        #expect(ImageAddress.splits("/a@b/r@h/latest").map(\.folder) == ["/a@b/r", "/a"])
        #expect(ImageAddress.splits("/a@b/r@h/latest").map(\.snapshot) == ["h/latest", "b/r@h/latest"])
        #expect(ImageAddress.splits("/@").map(\.folder) == ["/"])
    }

    @Test func passwordsAreForTheirOwner() throws {
        let folder = try TemporaryFolder()
        let secrets = folder.file("secrets")
        do {
            let file = try PasswordFile(Array("geheim".utf8), in: secrets)
            defer { withExtendedLifetime(file) {} }
            #expect(try Files.read(file.path) == Array("geheim".utf8))
            #expect(try Stat(file.path).permissions == [.ownerReadWrite])
            #expect(try Stat(secrets).permissions == [.ownerReadWriteExecute])
        }
        #expect(Files.names(in: secrets).isEmpty, "it is gone with its owner")
        #expect(refusal { () throws(JobFailure) in try PasswordFile([], in: secrets) }?.status == .usage)
    }

    @Test func imageIDs() throws {
        let image = InspectedImage(json: Array("{\"schema\":1,\"imageID\":\"00AAbbccdd\",\"more\":[1,{}]}".utf8))
        let id = try #require(image?.imageID)
        #expect(RestoreJob.isID(id, named: "00aabbcc") && !RestoreJob.isID(id, named: "01"))
        #expect(InspectedImage(json: Array("{}".utf8))?.imageID == nil)
        #expect(InspectedImage(json: []) == nil)
    }

    @Test(
        arguments: [
            (ChildProcess.Ending.exited(0), 200, nil, ""), (.exited(23), 200, nil, ""), (.signalled(13), 200, nil, ""),
            (.exited(22), 404, 66, "404 (not found)"),
            (.exited(22), 500, 66, "500"), (.exited(0), 301, 66, "redirect"),
            (.exited(6), nil, 66, "could not be resolved"),
            (.exited(7), nil, 66, "no connection"), (.exited(18), 200, 74, "short body"),
            (.exited(52), nil, 74, "without an answer"),
            (.exited(56), 200, 74, "connection was lost"), (.exited(28), 200, 74, "timed out"),
            (.signalled(9), 200, 74, "killed by signal 9"),
        ] as [(ChildProcess.Ending, Int?, Int32?, String)]) func failuresOnTheWay(
            ending: ChildProcess.Ending, code: Int?, status: Int32?, text: String
        )
    {
        let failure = HTTPStream.failure(ending, statusCode: code, address: "http://h/x")
        #expect(failure?.status.rawValue == status)
        #expect(text.isEmpty || failure?.message.contains(text) == true)
    }

    @Test func statusCodes() {
        #expect(HTTPStream.statusCode(header: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nA: b\r\n") == 404)
        #expect(
            HTTPStream.statusCode(header: "HTTP/1.1") == nil && HTTPStream.statusCode(header: "HTTP/1.1 99999 x") == nil
        )
    }

    @Test func everyStatusSaysHowTheDiskIs() {
        for status in [0, 64, 65, 66, 70, 73, 74, 75, 77, 78, 139] as [Int32] {
            let text = ExitStatus.restoreOutcome(JobEnd(status: status), disk: "/dev/sda")
            #expect(
                ["untouched", "partial", "complete", "Nothing was written"].contains { text.contains($0) }, "\(text)")
        }
    }
}
