// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemAccess
import SystemPackage

/// extlinux and syslinux started by a BIOS: boot code in block 0 starts the marked partition, whose boot record loads
/// ldlinux.sys from its blocks.
struct Extlinux: BootLoader {
    let name = "extlinux"

    private static let folders = ["/boot/extlinux", "/boot/syslinux", "/extlinux", "/syslinux", "/boot"]
    private static let configurationNames = ["extlinux.conf", "syslinux.cfg"]
    /// Folders with boot code: Debian's and upstream's, Arch's, Alpine's.
    private static let bootCodeFolders = [
        "/usr/lib/EXTLINUX", "/usr/lib/syslinux/mbr", "/usr/lib/syslinux/bios", "/usr/share/syslinux",
    ]
    private static let mostConfigurations = 16

    func survey(_ scene: BootScene) throws(BootRepairError) -> ExtlinuxFinding? {
        guard let system = scene.system else { return nil }
        let anchor = try scene.anchored()
        let place = Self.folders.lazy.compactMap { folder in
            Self.configurationNames.first { anchor.exists("\(folder)/\($0)") }.map { (folder, "\(folder)/\($0)") }
        }.first
        guard let (folder, configuration) = place, anchor.exists("\(folder)/ldlinux.sys") else { return nil }
        let number = folder.hasPrefix("/boot") ? system.bootPartition : system.rootPartition
        guard let volume = scene.volumes.first(where: { $0.number == number }) else { return nil }
        var finding: ExtlinuxFinding
        do throws(BlockIOError) {
            finding = ExtlinuxFinding(
                bootCode: MasterBootCode(try scene.disk.readBytes(at: 0, count: 512)), partition: number,
                folder: folder)
            try survey(volume, scene.disk, try? anchor.read("\(folder)/ldlinux.sys", limit: 1 << 20), &finding)
            let table = try PartitionTableReader.read(scene.disk)
            finding.marked = ExtlinuxMarking.marked(table)
            finding.marking = try ExtlinuxMarking.runs(marking: number, table, of: scene.disk)
            let file = table.kind == .gpt ? "gptmbr.bin" : "mbr.bin"
            let files = Self.bootCodeFolders.map { "\($0)/\(file)" }
            finding.systemBootCode = files.first { anchor.exists($0) }
            finding.ownBootCode = files.first { Files.exists(FilePath($0)) }
        } catch { throw .inputOutput(error) }
        finding.hasProgram = InstalledSystemReader.program("extlinux", in: anchor) != nil
        finding.configurations = Self.configurations(configuration, folder, system, anchor)
        return finding
    }

    private func survey(
        _ volume: BootVolume, _ disk: BlockDevice, _ file: [UInt8]?, _ finding: inout ExtlinuxFinding
    ) throws(BlockIOError) {
        guard volume.logicalVolume == nil, let partition = BlockSlice(disk, range: volume.range) else {
            finding.loaderProblem = "a BIOS cannot start \(volume.place)"
            return
        }
        finding.hasBootRecord = ExtlinuxLoader.isBootRecord(try partition.readBytes(at: 0, count: 512))
        guard let file, let loader = try? ExtlinuxLoader(file) else {
            finding.loaderProblem = "its ldlinux.sys is damaged"
            return
        }
        finding.loaderProblem = try loader.problem(in: partition)
    }

    /// The configuration and those that it includes, with the files that their entries name and that do not exist.
    private static func configurations(
        _ path: String, _ folder: String, _ system: InstalledSystem, _ anchor: borrowing AnchoredFolder
    ) -> [ExtlinuxConfiguration] {
        // Paths begin at the root of the filesystem.
        let top = folder.hasPrefix("/boot") && system.bootPartition != system.rootPartition ? "/boot" : ""
        var paths = [path]
        var found: [ExtlinuxConfiguration] = []
        while found.count < mostConfigurations, found.count < paths.count {
            let current = paths[found.count]
            let bytes = (try? anchor.read(current, limit: ExtlinuxConfiguration.largestFile)) ?? []
            var configuration = ExtlinuxConfiguration(String(decoding: bytes, as: UTF8.self), path: current)
            for index in configuration.entries.indices where configuration.entries[index].startsKernel {
                configuration.entries[index].missing = configuration.entries[index].files.filter {
                    !anchor.exists($0.hasPrefix("/") ? top + $0 : "\(folder)/\($0)")
                }
            }
            found.append(configuration)
            for name in configuration.includes {
                let included = name.hasPrefix("/") ? top + name : "\(folder)/\(name)"
                if !paths.contains(included), anchor.exists(included) { paths.append(included) }
            }
        }
        return found
    }

    func plan(for target: BootTarget, after steps: [BootRepairStep]) -> LoaderPlan {
        var planner = ExtlinuxPlanner(target)
        planner.planChain()
        return planner.plan
    }

    /// What the table says of the chain; the blocks of ldlinux.sys can be judged only with its file.
    func verify(_ disk: BlockDevice, volumes: [BootVolume]) -> String? {
        do throws(BlockIOError) {
            try disk.dropCache()
            let code = MasterBootCode(try disk.readBytes(at: 0, count: 512))
            let table = try PartitionTableReader.read(disk)
            let wanted: MasterBootCode = table.kind == .gpt ? .gptAttribute : .activePartition
            guard code == wanted else { return "the disk does not start by BIOS: block 0 holds other boot code" }
            guard table.kind != .gpt || table.condition == .intact else {
                return "the copies of the partition table differ"
            }
            let marked = ExtlinuxMarking.marked(table)
            guard marked.count == 1, let volume = volumes.first(where: { $0.number == marked[0] }),
                let partition = BlockSlice(disk, range: volume.range)
            else { return "the disk does not start by BIOS: not one partition alone is marked" }
            return ExtlinuxLoader.isBootRecord(try partition.readBytes(at: 0, count: 512))
                ? nil : "the disk does not start by BIOS: partition \(marked[0]) has no boot record of SYSLINUX"
        } catch {
            return "the chain of extlinux could not be read back: \(error)"
        }
    }
}
