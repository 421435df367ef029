// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemAccess

/// Resolves the references in a system's configuration files on its restored disk. Pure.
///
/// A kernel's name (`/dev/sda3`), a name by id or by path is resolved only if its disk is clearly the captured one: on
/// another machine it denotes another disk, or none.
struct DeviceJudge {
    /// The target of a reference.
    enum Verdict: Equatable {
        /// A partition or volume of this disk, by an identifier that a restore keeps.
        case here(Int)
        /// That partition, by a name that may be another disk's on this machine.
        case moved(Int)
        /// No partition or volume of this disk.
        case lost
        /// Cannot be judged: a mapping, an array, a network share.
        case unknown
    }

    let volumes: [BootVolume]
    let rootPartition: Int?
    /// The disks' names that denote the captured disk: `sda`, `disk/by-id/ata-…`.
    private let capturedDisks: Set<String>
    /// The PARTUUIDs that partitions had in the captured MBR, with their numbers.
    private let capturedPartUUIDs: [String: Int]
    /// The signatures that denote the captured MBR.
    private let capturedSignatures: Set<String>

    /// - Parameters:
    ///   - rootPartition: the number of the system's root partition or volume.
    ///   - capturedPartUUIDs: see `BootRepairOptions`.
    ///   - words: references of the system; a root by the number of its partition shows the disk's name.
    init(
        volumes: [BootVolume], rootPartition: Int?, fstab: [FstabEntry] = [], capturedDiskName: String? = nil,
        capturedPartUUIDs: [String: Int] = [:], words: [DeviceWord] = []
    ) {
        self.volumes = volumes
        self.rootPartition = rootPartition
        var names = Set([capturedDiskName].compactMap { $0 })
        for entry in fstab {
            if case .moved = entry.resolution, let name = DevicePartitionName(entry.device) { names.insert(name.disk) }
        }
        for word in words where word.use == .root {
            if let name = DevicePartitionName(word.value), name.number == rootPartition { names.insert(name.disk) }
        }
        capturedDisks = names
        self.capturedPartUUIDs = capturedPartUUIDs
        // A root by the number of its partition shows the signature, too.
        let roots =
            fstab.filter { $0.mountPoint == "/" }.map(\.device) + words.filter { $0.use == .root }.map(\.value)
        capturedSignatures = Set(
            roots.compactMap { root in
                guard case .partition(let text) = BootReference(root[...]), let name = MBRPartitionName(partUUID: text),
                    name.number == rootPartition
                else { return nil }
                return name.signature
            })
    }

    func verdict(of word: DeviceWord) -> Verdict {
        switch word.use {
        case .encrypted: return verdict(ofEncrypted: word.value)
        case .logicalVolume:
            // A group on another disk is not judged: its volumes are unknown.
            return volumes.first { $0.logicalVolume?.name == word.value }.map { .here($0.number) } ?? .unknown
        case .array: return .unknown
        case .root, .resume, .other: break
        }
        return verdict(of: BootReference(word.value[...]), use: word.use)
    }

    private func verdict(ofEncrypted value: String) -> Verdict {
        let reference = BootReference(value[...])
        guard case .device(let text) = reference, !text.hasPrefix("/dev/") else {
            return verdict(of: reference, use: .encrypted)
        }
        // A UUID, or the start of one (dracut.cmdline(7)).
        let found = volumes.first { volume in
            volume.kind == .luks && text.count >= 4 && volume.uuid?.lowercased().hasPrefix(text.lowercased()) == true
        }
        if let found { return .here(found.number) }
        return GrubConfiguration.looksLikeUUID(text[...]) ? .lost : .unknown
    }

    private func verdict(of reference: BootReference, use: DeviceWord.Use) -> Verdict {
        if let volume = volumes.first(where: { reference.names($0) }) { return .here(volume.number) }
        switch reference {
        case .filesystem: return .lost
        // PARTNROFF counts partitions from the named one: not judged.
        case .partition(let guid) where guid.contains("/"): return .unknown
        case .partition(let guid): return captured(guid, use).map(Verdict.moved) ?? .lost
        // A label may be that of a mapping inside.
        case .label: return .unknown
        case .device(let path):
            guard let name = DevicePartitionName(path) else { return .unknown }
            let volume = volumes.first { $0.number == name.number && $0.isPartition }
            guard capturedDisks.contains(name.disk), let volume, volume.uuid != nil, fits(volume, use) else {
                return .lost
            }
            return .moved(volume.number)
        }
    }

    /// The partition that had this PARTUUID in the captured MBR.
    private func captured(_ partUUID: String, _ use: DeviceWord.Use) -> Int? {
        var number = capturedPartUUIDs[partUUID]
        if number == nil, let name = MBRPartitionName(partUUID: partUUID), capturedSignatures.contains(name.signature) {
            number = name.number
        }
        let volume = volumes.first { $0.number == number && $0.isPartition }
        guard let volume, volume.uuid != nil, fits(volume, use) else { return nil }
        return volume.number
    }

    private func fits(_ volume: BootVolume, _ use: DeviceWord.Use) -> Bool {
        switch use {
        case .root: volume.number == rootPartition
        case .resume: volume.kind == .swap || rootPartition == volume.number
        case .encrypted: volume.kind == .luks
        case .logicalVolume, .array, .other: true
        }
    }

    /// The value that names the same thing on any machine; `nil` if the reference is right, or nothing is known to
    /// replace it.
    /// - Parameter hasInitramfs: without one, the kernel itself finds its root, which knows no UUIDs of filesystems
    ///   (kernel-parameters.txt, `root=`).
    func replacement(for word: DeviceWord, hasInitramfs: Bool = true) -> String? {
        switch verdict(of: word) {
        case .here, .unknown: return nil
        case .moved(let number): return volumes.first { $0.number == number }.flatMap { name(of: $0, hasInitramfs) }
        case .lost: break
        }
        switch word.use {
        case .root:
            return rootPartition.flatMap { number in
                volumes.first { $0.number == number }.flatMap { name(of: $0, hasInitramfs) }
            }
        case .resume:
            let swaps = volumes.filter { $0.kind == .swap }
            return swaps.count == 1 ? name(of: swaps[0], hasInitramfs) : nil
        case .encrypted, .logicalVolume, .array, .other: return nil
        }
    }

    private func name(of volume: BootVolume, _ hasInitramfs: Bool) -> String? {
        guard hasInitramfs else { return volume.partUUID.isEmpty ? nil : "PARTUUID=\(volume.partUUID)" }
        return volume.uuid.map { "UUID=\($0)" }
    }

    /// The references that are wrong, with their replacements.
    func problems(
        in words: [DeviceWord], hasInitramfs: Bool = true
    ) -> [(word: DeviceWord, verdict: Verdict, replacement: String?)] {
        words.compactMap { word in
            let verdict = verdict(of: word)
            switch verdict {
            case .here, .unknown: return nil
            case .moved, .lost: return (word, verdict, replacement(for: word, hasInitramfs: hasInitramfs))
            }
        }
    }
}
