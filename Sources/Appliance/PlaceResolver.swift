// SPDX-License-Identifier: GPL-3.0-or-later
import BootRepair
import ByteParsing
import DiskModel
import LinuxSystem
import SystemAccess

/// Finds the volume and the path of a `FilePlace`, and mounts the volume.
package final class PlaceResolver {
    private let session: ApplianceSession
    package let volumes: [AgentVolume]
    private let table: PartitionTable?
    private let capturedDiskName: String?
    private var mounts: [(volume: UInt32, subvolume: AgentSubvolume, mounted: ApplianceSession.Mounted)] = []
    private var system: System?

    private struct System {
        var volume: AgentVolume
        var subvolume: AgentSubvolume
        var entries: [FstabEntry]
    }

    /// - Parameters:
    ///   - table: the captured table, for fstab lines with PARTUUID or PARTLABEL.
    ///   - capturedDiskName: the kernel's name of the disk when it was captured, for fstab lines with `/dev/sda3`.
    package init(
        _ session: ApplianceSession, table: PartitionTable? = nil, capturedDiskName: String? = nil
    ) throws(ApplianceError) {
        self.session = session
        volumes = try session.volumes()
        self.table = table
        self.capturedDiskName = capturedDiskName
    }

    package func resolve(_ place: FilePlace) throws -> (mounted: ApplianceSession.Mounted, path: [UInt8]) {
        switch place.volume {
        case .installed: return try resolveInstalled(place)
        case .partition(let number):
            guard let volume = volumes.first(where: { $0.partition == number && $0.logicalVolume.isEmpty }) else {
                throw ApplianceError.notFound("there is no partition \(number); \(Self.list(volumes))")
            }
            if volume.kindName == "LVM2_member", volume.obstacle.isEmpty {
                let inner = volumes.filter { $0.partition == number && !$0.logicalVolume.isEmpty }
                throw ApplianceError.refused(
                    "partition \(number) holds LVM: name a logical volume instead (\(inner.map { "\($0.name):/path" }.joined(separator: ", ")))"
                )
            }
            return (try mount(volume, .topLevel), place.path)
        case .logicalVolume(let name):
            guard let volume = volumes.first(where: { $0.logicalVolume == name }) else {
                throw ApplianceError.notFound("there is no logical volume \(name); \(Self.list(volumes))")
            }
            return (try mount(volume, .topLevel), place.path)
        }
    }

    package func mount(
        _ volume: AgentVolume, _ subvolume: AgentSubvolume
    ) throws(ApplianceError) -> ApplianceSession.Mounted {
        if let known = mounts.first(where: { $0.volume == volume.id && $0.subvolume == subvolume }) {
            return known.mounted
        }
        let mounted = try session.mount(volume, subvolume)
        mounts.append((volume.id, subvolume, mounted))
        return mounted
    }

    private static func list(_ volumes: [AgentVolume]) -> String {
        let names = volumes.filter(\.isMountable).map { "\($0.name):/ (\($0.kindName))" }
        let damaged = volumes.filter { $0.kindName == "LVM2_member" && !$0.obstacle.isEmpty }
        let isLocked = volumes.contains { $0.kindName == "crypto_LUKS" }
        return (names.isEmpty ? "no volume holds files" : "there are \(names.joined(separator: ", "))")
            + damaged.map { "; \($0.name) (LVM): \($0.obstacle)" }.joined()
            + (isLocked ? ", and encrypted volumes (--luks-key-file opens them)" : "")
    }

    /// - Returns: `nil` where a volume or a file cannot be read: another one may hold the system. The end of the machine
    ///   is no such reason.
    private func attempt<Value>(_ body: () throws -> Value) throws -> Value? {
        do { return try body() } catch let error as ApplianceError {
            switch error {
            case .notFound, .failed, .refused: return nil
            default: throw error
            }
        }
    }

    // MARK: The installed system

    private func resolveInstalled(_ place: FilePlace) throws -> (mounted: ApplianceSession.Mounted, path: [UInt8]) {
        guard !place.components.contains(Array("..".utf8)) else {
            throw ApplianceError.refused(
                "\(AgentText.shown(place.path)) has a `..`, which could lead to another volume: write the path without it"
            )
        }
        let system = try self.system ?? findSystem()
        self.system = system
        guard let (entry, rest) = Self.match(system.entries, place) else {
            return (try mount(system.volume, system.subvolume), place.path)
        }
        guard let number = entry.partition, let volume = bootVolumes.first(where: { $0.boot.number == number })?.agent
        else {
            throw ApplianceError.notFound(
                "\(AgentText.shown(place.path)) is not on this disk: the system mounts \(AgentText.shown(Array(entry.device.utf8))) on \(AgentText.shown(Array(entry.mountPoint.utf8)))"
            )
        }
        let subvolume: AgentSubvolume = entry.subvolume.map { .named(Array($0.utf8)) } ?? .standard
        return (try mount(volume, subvolume), rest)
    }

    /// The entry whose mount point holds the path, but for `/`, and the path below it.
    static func match(_ entries: [FstabEntry], _ place: FilePlace) -> (FstabEntry, [UInt8])? {
        let wanted = place.components
        let candidates = entries.compactMap { entry -> (FstabEntry, Int)? in
            let parts = entry.mountPoint.utf8.split(separator: UInt8(ascii: "/")).map { Array($0) }
            guard entry.mountPoint.hasPrefix("/"), !parts.isEmpty, wanted.starts(with: parts) else { return nil }
            return (entry, parts.count)
        }
        // Of two for the same place, the later one is mounted on top.
        guard let deepest = candidates.map(\.1).max(), let entry = candidates.last(where: { $0.1 == deepest })?.0 else {
            return nil
        }
        let rest = wanted.dropFirst(deepest).flatMap { [UInt8(ascii: "/")] + $0 }
        return (entry, rest.isEmpty ? [UInt8(ascii: "/")] : rest)
    }

    /// The volumes with the numbers by which `FstabResolver` names them.
    private var bootVolumes: [(boot: BootVolume, agent: AgentVolume)] {
        var next = Int(volumes.map(\.partition).max() ?? 0)
        return volumes.map { volume in
            let partition = table?.partitions.first { $0.number == Int(volume.partition) }
            let isLogical = !volume.logicalVolume.isEmpty
            if isLogical { next += 1 }
            let boot = BootVolume(
                number: isLogical ? next : Int(volume.partition), range: partition?.range ?? 0..<volume.byteCount,
                typeGUID: isLogical ? .zero : partition?.typeGUID ?? .zero,
                guid: isLogical ? .zero : partition?.guid ?? .zero,
                partUUID: isLogical ? "" : partition.flatMap { table?.partUUID(of: $0) } ?? "",
                name: isLogical ? "" : partition?.name ?? "",
                kind: Self.kind(volume.kindName), kindName: volume.kindName,
                uuid: volume.uuid.isEmpty ? nil : volume.uuid, label: volume.label.isEmpty ? nil : volume.label,
                logicalVolume: isLogical
                    ? .init(name: volume.logicalVolume, partition: Int(volume.partition)) : nil)
            return (boot, volume)
        }
    }

    private static func kind(_ name: String) -> FilesystemInfo.Kind {
        FilesystemInfo.Kind(rawValue: name) ?? (name == "vfat" ? .fat32 : .unknown)
    }

    private func findSystem() throws -> System {
        var found: [System] = []
        for (boot, volume) in bootVolumes
        where volume.isMountable && FilesystemTraits.named(volume.kindName)?.mayHoldSystem == true {
            let isBtrfs = volume.kindName == "btrfs"
            for subvolume in try subvolumes(of: volume, isBtrfs: isBtrfs) {
                guard let mounted = try attempt({ try mount(volume, subvolume) }),
                    let text = try attempt({ try session.read(mounted, Array("/etc/fstab".utf8)) })
                else { continue }
                let resolver = FstabResolver(
                    volumes: bootVolumes.map(\.boot), rootPartition: boot.number, capturedDiskName: capturedDiskName)
                let entries = resolver.resolve(Fstab(String(decoding: text, as: UTF8.self)).entries)
                let root = entries.last { $0.mountPoint == "/" }
                if let root, let partition = root.partition, partition != boot.number { continue }
                if isBtrfs, case .named(let path) = subvolume, let named = root?.subvolume, Array(named.utf8) != path {
                    continue
                }
                found.append(System(volume: volume, subvolume: subvolume, entries: entries))
                // The default subvolume is found first; a snapshot of it would be a second system.
                if isBtrfs, subvolume == .standard { break }
            }
        }
        guard let first = found.first else {
            throw ApplianceError.notFound(
                "no installed system was found (a volume with /etc/fstab): name the volume, as in 3:/path; \(Self.list(volumes))"
            )
        }
        guard found.count == 1 else {
            throw ApplianceError.refused(
                "there are several installed systems (on \(found.map(\.volume.name).joined(separator: ", "))): name the volume, as in \(first.volume.name):/path"
            )
        }
        return first
    }

    /// Upper bound on the top-level folders to search.
    private static let mostFolders = 64

    private func subvolumes(of volume: AgentVolume, isBtrfs: Bool) throws -> [AgentSubvolume] {
        guard isBtrfs, let top = try attempt({ try mount(volume, .topLevel) }) else { return [.topLevel] }
        let folders = (try attempt { try session.list(top, [UInt8(ascii: "/")]) } ?? []).filter { $0.kind == .folder }
        let withSystem = try folders.prefix(Self.mostFolders).filter { folder in
            try attempt { try session.stat(top, Array("/".utf8) + folder.name + Array("/etc/fstab".utf8)) } != nil
        }
        return [.standard] + withSystem.map { .named($0.name) }
    }
}
