// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import LinuxSystem
import SystemAccess
import SystemPackage
import Testing

@testable import BootRepair

/// Programs of a hostile system change nothing outside of their disk.
@Suite(
    .serialized,
    .enabled(
        if: SystemFacts.isRoot && Files.exists("/dev/loop-control") && HostileDisk.compiler != nil
            && ["mke2fs", "sfdisk"].allSatisfy(ChildProcess.canFind),
        "needs root, loop devices, sfdisk, e2fsprogs and a C compiler"))
struct HostileTreeTests {
    static let options = BootRepairOptions(firmware: .bios, inRecoveryEnvironment: false)

    /// The result of each attempt of the program: the error's name.
    static func answers(_ lines: some Sequence<String>) -> [String: String] {
        lines.reduce(into: [:]) { answers, line in
            let parts = line.drop { $0 == " " }.split(separator: "=")
            if parts.count == 2 { answers[String(parts[0])] = String(parts[1]) }
        }
    }

    /// The expected results of the attempts, by the error's name.
    static let expected = [
        "EPERM": """
        dm-create dm-load dm-suspend dm-remove dm-remove-all dm-rename dm-message dm-load-odd-size \
        high-bits mknod mknod-dev loop-move reread-table nvme-command scsi-command freeze mount-tmpfs \
        remount-proc bind-proc remount-root umount-root umount-dev fsopen open-tree user-namespace \
        mount-namespace setns clone init-module finit-module bpf reboot swapon keyctl raw-io trace
        """,
        // Not refused: no such ioctl of /dev/null.
        "ENOTTY": "dm-version dm-list dm-status dm-table dm-deps",
        "EACCES": "node-in-tree",
        "ENOENT": "made-node made-node-dev proc-root chroot memory-of-first environment-of-first",
        // Setting the limit of core dumps changes nothing, and is no error.
        "ok": "loop-query core-limit core-limit-64 core-limit-raw read-core-limit core-limit-is-1 other-limit",
        "ENOSYS": "clone3 io-uring later-call",
        "EROFS": "core-pattern sysfs",
        "EAFNOSUPPORT": "vsock",
        "ESRCH": "signal",
    ]

    static func expectRefused(_ answers: [String: String]) {
        for (answer, attempts) in expected {
            for attempt in attempts.split(separator: " ").map(String.init) {
                #expect(answers[attempt] == answer, "\(attempt)")
            }
        }
        #expect(["ENOENT", "EROFS"].contains(answers["sysrq"]), "\(answers["sysrq"] ?? "nothing")")
        #expect(["ENOENT", "EROFS", "EPERM"].contains(answers["efivars"]), "\(answers["efivars"] ?? "nothing")")
    }

    @Test func bootRepairOfAHostileSystem() throws {
        let hostile = try HostileDisk(linksOut: true, newConfiguration: "hostile\n")
        try Files.write(Array("77".utf8), inPlaceOf: hostile.victimAttribute)
        let before = try hostile.outside()
        var lines: [String] = []
        do {
            let disk = try BlockDevice(opening: hostile.disk.path)
            let survey = try BootRepair.survey(disk: disk, options: Self.options)
            let plan = BootRepair.plan(survey, options: Self.options)
            try #require(
                plan.steps.contains {
                    if case .runGrubInstall = $0.record as? GrubStep { true } else { false }
                }, "\(plan)")
            let outcome = try BootRepair.execute(plan, disk: disk) { lines.append($0) }
            #expect(outcome.warnings.contains { $0.contains("the old file is kept") }, "\(outcome)")
        }
        #expect(try hostile.outside() == before)
        #expect(hostile.leftBehind() == [])
        Self.expectRefused(Self.answers(lines))
        #expect(!lines.contains { $0.unicodeScalars.contains("\u{1B}") }, "what it says commands no terminal")
        // The nodes that it sees are the disk's own.
        let name = hostile.disk.path.lastComponent?.string ?? ""
        func second(_ word: String) -> [String] {
            lines.map { $0.split(separator: " ").map(String.init) }.filter { $0.first == word }.map { $0[1] }
        }
        let nodes = second("node")
        #expect(nodes.contains(name))
        #expect(nodes.allSatisfy { $0.hasPrefix(name) }, "\(nodes)")
        let own = ["mnt", "pid", "net", "ipc", "uts"].compactMap { Files.linkTarget(FilePath("/proc/self/ns/\($0)")) }
        let its = second("namespace")
        #expect(its.count == 5 && Set(its).isDisjoint(with: own), "\(its)")
        #expect(!MountEntry.current().contains { $0.source.hasPrefix(hostile.disk.path.string + "p") })
    }

    /// With the capability for device-mapper queries, only the filter protects.
    @Test func queriesOfDeviceMapperOpenNothingElse() throws {
        let hostile = try HostileDisk(linksOut: false, newConfiguration: "")
        try Files.write(Array("77".utf8), inPlaceOf: hostile.victimAttribute)
        let before = try hostile.outside()
        try Self.withTree(hostile) { confinement in
            var confinement = confinement
            confinement.capabilities.insert(.queryDeviceMapper)
            let output = try ChildProcess.run(["grub-install"], confinement: confinement)
            #expect(output.succeeded)
            Self.expectRefused(Self.answers(output.text.split(separator: "\n").map(String.init)))
        }
        #expect(try hostile.outside() == before)
        #expect(hostile.leftBehind() == [])
    }

    static func withTree(_ hostile: borrowing HostileDisk, _ body: (Confinement) throws -> Void) throws {
        let disk = try BlockDevice(opening: hostile.disk.path)
        let survey = try BootRepair.survey(disk: disk, options: Self.options)
        let tree = try SystemTree(try #require(survey.volume(2)), of: disk, readOnly: false)
        defer { try? tree.close() }
        try tree.prepareForPrograms(survey.volumes, kernelName: hostile.disk.path.lastComponent?.string ?? "")
        try body(try #require(tree.confinement))
    }

    /// All its processes end with it, at the timeout, and with the waiting thread.
    @Test func allOfItEnds() throws {
        let hostile = try HostileDisk(linksOut: false, newConfiguration: "")
        try Self.withTree(hostile) { confinement in
            let late = try ChildProcess.run(
                ["grub-install", "--stay"], confinement: confinement, timeoutSeconds: 1)
            #expect(late.ending == .signalled(SIGKILL))
            #expect(hostile.leftBehind() == [])
            let started = Monitor(Int32(0))
            let thread = try WorkerThread {
                guard let child = try? ChildProcess(["grub-install", "--stay"], confinement: confinement) else {
                    return
                }
                started.update { $0 = child.processID }
                SystemFacts.sleep(seconds: 0.5)
            }
            thread.join()
            let process = started.update { $0 }
            try #require(process > 0)
            var status: Int32 = 0
            #expect(waitpid(process, &status, 0) == process && status == SIGKILL)
            #expect(hostile.leftBehind() == [])
            let missing = #expect(throws: SystemCallError.self) {
                try ChildProcess.run(["no-such-program"], confinement: confinement)
            }
            #expect(missing?.errno == .noSuchFileOrDirectory)
        }
    }

    /// os-prober finds no other systems from inside: a grub.cfg that starts this system and lists others is kept.
    @Test func entriesOfOtherSystemsStay() throws {
        let hostile = try HostileDisk(linksOut: false, newConfiguration: HostileDisk.shortConfiguration)
        let disk = try BlockDevice(opening: hostile.disk.path)
        let plan = BootRepair.plan(try BootRepair.survey(disk: disk, options: Self.options), options: Self.options)
        let outcome = try BootRepair.execute(plan, disk: disk)
        #expect(outcome.warnings.contains { $0.contains("\"Windows (on /dev/sdb1)\"") }, "\(outcome)")
        let tree = try SystemTree(try #require(plan.volumes.first { $0.number == 2 }), of: disk, readOnly: true)
        #expect(try tree.anchored().text("/boot/grub/grub.cfg") == HostileDisk.configuration)
        try tree.close()
    }

    /// grub-mkimage of this machine gets copies of files in the tree, and none from outside through links.
    @Test func modulesAreCopiedFromTheTreeAlone() throws {
        let hostile = try HostileDisk(linksOut: false, newConfiguration: "")
        let disk = try BlockDevice(opening: hostile.disk.path)
        let survey = try BootRepair.survey(disk: disk, options: Self.options)
        let tree = try SystemTree(try #require(survey.volume(2)), of: disk, readOnly: true)
        defer { try? tree.close() }
        let copy = try TreeFolderCopy(
            of: "/usr/lib/grub/i386-pc", in: try tree.anchored(), endings: GrubBIOS.moduleEndings,
            name: "the GRUB modules")
        withExtendedLifetime(copy) {
            #expect(Files.names(in: copy.path) == ["whole.mod"])
            #expect(Files.text(copy.path.appending("whole.mod")) == "whole")
        }
    }
}

extension Files {
    /// Writes to the existing file: an attribute of sysfs cannot be replaced.
    fileprivate static func write(_ bytes: [UInt8], inPlaceOf path: FilePath) throws(SystemCallError) {
        let file = try OwnedDescriptor.open(path, .writeOnly)
        do { _ = try file.raw.writeAll(bytes) } catch {
            throw SystemCallError("write", path.string, error as? Errno ?? .ioError)
        }
    }
}
