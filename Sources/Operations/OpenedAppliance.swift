// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import DiskModel
import ImageModel
import JobModel
import LinuxSystem
import NBD
import SystemPackage

/// An image, a snapshot or a disk whose files can be read: in a virtual machine, or on the medium by its own kernel.
package final class OpenedAppliance {
    package let session: ApplianceSession
    package let resolver: PlaceResolver
    /// `nil` for a disk on the medium.
    private let source: ServedSource?
    package let text: String
    private let events: any EventSink
    /// The names and the UUIDs of volumes that were captured with changes in their journal only.
    private let unclean: Set<String>
    private var warned: Set<String> = []

    /// The longest key that is accepted, in bytes.
    private static let longestKey = 512 << 10

    package init(_ text: String, _ choice: ApplianceChoice, _ keys: KeyRing, _ events: any EventSink) throws {
        (self.text, self.events) = (text, events)
        let started = try Self.start(text, choice, keys, events)
        (session, source) = (started.session, started.source)
        let manifest =
            try source.map { $0.header.manifest } ?? Self.manifest(ofDisk: text, keys, events)
        unclean = Self.unclean(manifest?.regions ?? [])
        resolver = try PlaceResolver(
            session, table: manifest?.table, capturedDiskName: manifest?.disk.kernelName)
    }

    /// An agent that has the keys, and has looked at nothing yet.
    struct Started {
        let session: ApplianceSession
        /// `nil` for a disk on the medium.
        let source: ServedSource?

        /// What the image said where the machine got only an error number; `nil` without one.
        var imageError: String? { source?.damage.map { "\($0)" } ?? session.readFailure.map { "\($0)" } }
    }

    static func start(
        _ text: String, _ choice: ApplianceChoice, _ keys: KeyRing, _ events: any EventSink
    ) throws -> Started {
        let keyBytes = try keyBytes(choice.luksKeyFiles)
        let started: Started
        if SystemFacts.isRecoveryEnvironment, let disk = Self.localDisk(text) {
            started = Started(
                session: try ApplianceSession(local: [disk], cancellation: keys.cancellation), source: nil)
        } else if SystemFacts.isRecoveryEnvironment {
            let source = try ServedSource.open(text, keys)
            started = Started(
                session: try ApplianceSession(attaching: [source.disk], cancellation: keys.cancellation),
                source: source)
        } else {
            // Before the image is opened: finding no medium must not take long.
            let media = try ApplianceMedia.find(choice.media)
            let source = try ServedSource.open(text, keys)
            var options = ApplianceSession.Options()
            options.allowsKVM = choice.allowsKVM
            if !keyBytes.isEmpty { options.memoryMiB = ApplianceSession.memoryForLUKS }
            events.take(.phase("starting the appliance"))
            defer { events.take(.phase("")) }
            started = Started(
                session: try ApplianceSession(
                    disks: [source.disk], media: media, options: options, cancellation: keys.cancellation,
                    say: { events.warn("no-kvm", $0) }), source: source)
        }
        if !keyBytes.isEmpty { try started.session.unlock(keyBytes) }
        return started
    }

    /// The keys in files of these names.
    static func keyBytes(_ names: [String]) throws -> [[UInt8]] {
        try LUKSKeys(names).keyFiles().map { path in
            let bytes = try Files.read(path, limit: longestKey + 1)
            guard bytes.count <= longestKey else {
                throw JobFailure(.usage, "\(path) is longer than the \(longestKey) bytes of the longest key")
            }
            return bytes
        }
    }

    /// The node of a disk; `nil` for an image or a snapshot.
    private static func localDisk(_ text: String) -> FilePath? {
        (try? Stat(FilePath(text)))?.type == .blockSpecial ? Files.realPath(FilePath(text)) : nil
    }

    /// A disk as a capture would describe it: its partition table, and which volumes are not clean. It is not held: a
    /// disk that cannot be surveyed, as a damaged one, can still have readable files.
    private static func manifest(ofDisk text: String, _ keys: KeyRing, _ events: any EventSink) throws -> Manifest? {
        do { return try ServedSource.open(text, keys).header.manifest } catch {
            guard !keys.cancellation.isRequested else { throw error }
            events.warn(
                "journal",
                "\(text) could not be surveyed (\(error)): whether changes are only in a journal, and missing here, is not known, and names of its partitions in fstab may not be found"
            )
            return nil
        }
    }

    package func resolve(
        _ text: String
    ) throws -> (place: FilePlace, mounted: ApplianceSession.Mounted, path: [UInt8]) {
        guard let place = FilePlace(text) else {
            throw JobFailure(.usage, "\(text) is no path in an image: it is \(FilePlace.forms)")
        }
        let (mounted, path) = try resolver.resolve(place)
        noteJournal(of: mounted.volume)
        return (place, mounted, path)
    }

    /// Says once of a volume that its journal is not applied.
    package func noteJournal(of volume: AgentVolume) {
        guard unclean.contains(volume.name) || !volume.uuid.isEmpty && unclean.contains(volume.uuid),
            warned.insert(volume.name).inserted
        else { return }
        events.warn(
            "journal",
            "\(volume.name):/ of \(text) was not cleanly unmounted, and its journal is not applied: recent changes are missing, and files that were being written can be wrong. A restored disk applies it"
        )
    }

    /// In any depth: a logical volume has its name, and what is in LUKS only its UUID.
    static func unclean(_ regions: [Manifest.Region]) -> Set<String> {
        var found: Set<String> = []
        func add(_ filesystem: FilesystemInfo, _ name: String) {
            if filesystem.isClean == false { found.formUnion([name, filesystem.uuid ?? name]) }
            for inner in filesystem.inner ?? [] { add(inner.filesystem, inner.name) }
        }
        for region in regions {
            if let filesystem = region.filesystem { add(filesystem, String(region.partition ?? 0)) }
        }
        return found
    }

    /// Fails if the image changed while it was read.
    package func check() throws { try source?.checkHeldStill() }

    /// What the image said where the machine got only an error number; `nil` without one.
    package var imageError: String? {
        source?.damage.map { "\($0)" } ?? session.readFailure.map { "\($0)" }
    }
}
