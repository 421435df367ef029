// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// Makes an `IdentitySurvey`. Reads only; nothing of the system runs.
struct IdentitySurveyor {
    let disk: BlockDevice
    var survey: IdentitySurvey
    private let keys: [FilePath]
    private let hibernated: Int?
    private var byteCount = 0

    /// - Parameters:
    ///   - boot: how the disk boots, surveyed before.
    ///   - keys: the files with the keys of LUKS volumes.
    init(_ disk: BlockDevice, _ boot: SystemBootSurvey, keys: [FilePath]) {
        self.disk = disk
        self.keys = keys
        hibernated = boot.hibernated
        survey = IdentitySurvey(disk: boot.disk, volumes: boot.volumes, system: boot.system)
        (survey.diskGUID, survey.diskSignature) = (boot.diskGUID, boot.diskSignature)
        survey.systemProblem = boot.systemProblem
        survey.esp = boot.esp?.partition
        if boot.access != .partitionNodes {
            survey.obstacleToDisk = boot.accessProblem ?? "this kernel shows no partitions of \(boot.disk.path)"
        }
        survey.ownTools = Set(
            (VolumeChange.Method.all.flatMap { VolumeChange.programs(of: $0) } + ["lvm"]).filter(ChildProcess.canFind))
        if let system = boot.system {
            if !system.programsRunHere { survey.obstacleToTools = "its programs are for another processor" }
            if let missing = system.missingBoot {
                survey.mountProblems.append(.init(path: "/boot", reason: "\(missing) is not on this disk"))
            }
        }
    }

    mutating func run(_ log: (String) -> Void) throws(BootRepairError) -> IdentitySurvey {
        if let hibernated { throw .hibernated(hibernated) }
        try lookAtVolumes()
        guard let system = survey.system else { return survey }
        survey.mounts = SystemMounts(of: system, volumes: survey.volumes, esp: survey.esp)
        do throws(SystemCallError) {
            log("looking at the identity of \(system.name)")
            let (tree, problems) = try survey.mounts.open(
                of: survey.volumes, disk: disk, readOnly: true, esp: survey.esp, keys: keys)
            survey.mountProblems += problems
            defer { try? tree.close() }
            let anchor = try tree.anchored()
            lookAtFiles(anchor)
            readTexts(anchor)
            readPrograms(anchor)
            survey.cardNames = CardNames.found(in: anchor)
            survey.unfinished = IdentityRecord.read(anchor)
        } catch { throw .system(error) }
        return survey
    }

    /// The state of the filesystems, and the boot code.
    private mutating func lookAtVolumes() throws(BootRepairError) {
        let observed: DiskSurvey
        do {
            observed = try DiskSurveyor.survey(
                disk, identity: survey.disk, geometry: disk.geometry, allUsed: true,
                descriptor: disk.fileDescriptor.rawValue)
        } catch { throw .inputOutput(error) }
        survey.hasBIOSGrub = observed.boot.biosBootCode == "GRUB"
        for volume in observed.volumes {
            guard let number = volume.partition?.number else { continue }
            let filesystem = volume.filesystem
            if filesystem.kind == .ntfs, filesystem.isClean == false {
                survey.obstacles[number] = "Windows was not shut down, or is hibernated"
            }
            for inner in filesystem.inner ?? [] where filesystem.kind == .lvm {
                guard let group = inner.name.split(separator: "/").first, ConfinedLVM.isName(group) else { continue }
                survey.groups[String(group), default: []].insert(number)
            }
        }
    }

    private mutating func lookAtFiles(_ anchor: borrowing AnchoredFolder) {
        var paths = IdentityFiles.seeds + IdentityFiles.network + IdentityFiles.byHand.map(\.path)
        paths += IdentityFiles.texts
        paths += ["/var/lib/dbus/machine-id", "/etc/kernel/entry-token", "/boot/loader/entries"]
        if let esp = survey.espFolder { paths.append("\(esp)/loader/random-seed") }
        for (folder, endings) in IdentityFiles.leases {
            paths += anchor.names(in: folder, atMost: IdentityFiles.mostNames)
                .filter { name in endings.contains { name.hasSuffix($0) } }.map { "\(folder)/\($0)" }
        }
        paths += anchor.names(in: "/etc/ssh", atMost: IdentityFiles.mostNames)
            .filter { $0.hasPrefix("ssh_host_") || $0.hasPrefix(IdentityFiles.setAside) }.map { "/etc/ssh/\($0)" }
        paths += anchor.names(in: "/etc/dropbear", atMost: IdentityFiles.mostNames)
            .filter { $0.hasPrefix("dropbear_") && $0.hasSuffix("_host_key") }.map { "/etc/dropbear/\($0)" }
        // Distributions ship an empty one.
        if !anchor.names(in: IdentityFiles.credentials, atMost: 1).isEmpty { paths.append(IdentityFiles.credentials) }
        for path in paths { if let kind = anchor.kind(of: path) { survey.kinds[path] = kind } }
        for tool in IdentityFiles.tools {
            let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map { "\($0)/\(tool)" }
            if places.contains(where: { anchor.exists($0) }) { survey.tools.insert(tool) }
        }
    }

    private mutating func readTexts(_ anchor: borrowing AnchoredFolder) {
        for path in IdentityFiles.texts where survey.kinds[path] != nil { read(path, anchor) }
        var folders = IdentityFiles.folders
        if let esp = survey.espFolder {
            folders.append(("\(esp)/loader/entries", [".conf"]))
            for name in anchor.names(in: "\(esp)/EFI", atMost: Self.mostInESP) {
                folders.append(("\(esp)/EFI/\(name)", [".cfg", "grubenv"]))
            }
        }
        for (folder, endings) in folders {
            let names = anchor.names(in: folder, atMost: IdentityFiles.mostNames)
            // What is cut off may name a volume.
            if names.count == IdentityFiles.mostNames {
                survey.unread.append(.init(path: folder, reason: "it has too many files"))
            }
            for name in names
            where endings.contains(where: { name.hasSuffix($0) }) {
                read("\(folder)/\(name)", anchor)
            }
        }
        // The folders that kernel-install names after the machine id.
        if let machineID = survey.text("/etc/machine-id")?.split(separator: "\n").first,
            machineID.utf8.count == 32, machineID.allSatisfy(\.isHexDigit)
        {
            for top in ["/boot"] + [survey.espFolder].compactMap(\.self) {
                if let kind = anchor.kind(of: "\(top)/\(machineID)") { survey.kinds["\(top)/\(machineID)"] = kind }
            }
        }
    }

    private mutating func read(_ path: String, _ anchor: borrowing AnchoredFolder) {
        guard !survey.texts.contains(where: { $0.path == path }) else { return }
        // Other entries hold no text: folders, broken links, and links to /dev/null, by which systemd masks a unit.
        guard anchor.kind(at: path) == .file else { return }
        let room = min(IdentityFiles.longestText, IdentityFiles.mostBytes - byteCount)
        do throws(SystemCallError) {
            let bytes = try anchor.readWhole(path, limit: room)
            byteCount += bytes.count
            survey.texts.append(.init(path, bytes))
        } catch { survey.unread.append(.init(path: path, reason: error.errno.sentence)) }
    }

    /// Programs of the EFI system partition: a kernel with its command line, or a GRUB that searches a filesystem.
    private mutating func readPrograms(_ anchor: borrowing AnchoredFolder) {
        guard let esp = survey.espFolder else { return }
        let changes = survey.volumes.compactMap { volume in
            volume.uuid.map { IdentifierChange($0, to: String(volume.number)) }
        }
        for folder in names(in: "\(esp)/EFI", anchor) {
            for name in names(in: "\(esp)/EFI/\(folder)", anchor)
            where name.lowercased().hasSuffix(".efi") {
                let path = "\(esp)/EFI/\(folder)/\(name)"
                guard let bytes = try? anchor.readWhole(path, limit: IdentityFiles.longestProgram) else {
                    survey.unread.append(.init(path: path, reason: "it cannot be read, or is too large"))
                    continue
                }
                let found = IdentifierText.present(changes, in: bytes).compactMap { Int($0.new) }.sorted()
                // PE section names (PE format, section table): 8 bytes.
                let isKernel = ByteSearch.first(Array(".linux\0\0".utf8), in: bytes.prefix(4096)) != nil
                let namesGroup = Self.namesGroup(bytes)
                if !found.isEmpty || isKernel || namesGroup {
                    survey.programs.append(
                        .init(path: path, volumes: found, isKernel: isKernel, namesGroup: namesGroup))
                }
            }
        }
    }

    /// The names in a folder of the EFI system partition; one that is cut off may name a volume.
    private mutating func names(in folder: String, _ anchor: borrowing AnchoredFolder) -> [String] {
        let names = anchor.names(in: folder, atMost: Self.mostInESP)
        if names.count == Self.mostInESP {
            survey.unread.append(.init(path: folder, reason: "it has too many files"))
        }
        return names
    }

    private static let mostInESP = 64

    /// GRUB's name of a place in a group: `lvmid/`, and ids of 6-4-4-4-4-4-6 letters and digits. The bare word is in
    /// every GRUB that knows LVM.
    static func namesGroup(_ bytes: [UInt8]) -> Bool {
        let mark = Array("lvmid/".utf8)
        var rest = bytes[...]
        while let start = ByteSearch.first(mark, in: rest) {
            let id = bytes[(start + mark.count)...].prefix(7)
            if id.count == 7, id.last == UInt8(ascii: "-"),
                id.dropLast().allSatisfy({
                    Character(UnicodeScalar($0)).isLetter || Character(UnicodeScalar($0)).isNumber
                })
            {
                return true
            }
            rest = bytes[(start + mark.count)...]
        }
        return false
    }
}

extension VolumeChange.Method {
    static let all: [VolumeChange.Method] = [.ext, .xfs, .btrfs, .luks, .bytes]
}

/// Search for bytes.
enum ByteSearch {
    /// The index at which they begin; `nil` if they are not there.
    static func first(_ wanted: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        guard let first = wanted.first else { return nil }
        var position = bytes.startIndex
        while let start = bytes[position...].firstIndex(of: first), bytes.endIndex - start >= wanted.count {
            if bytes[start..<start + wanted.count].elementsEqual(wanted) { return start }
            position = start + 1
        }
        return nil
    }
}
