// SPDX-License-Identifier: GPL-3.0-or-later
import DiskImages
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// The source of a capture: the disk itself, or LVM snapshots in place of mounted volumes; optionally read around
/// unreadable sectors.
package final class DiskSource {
    /// Reads the source.
    package let reader: any BlockReader
    /// The mount points of filesystems that are mounted read-write, and read without a snapshot.
    package let mountedReadWrite: [String]
    private let disk: OpenedDisk
    private let virtual: VirtualSource?
    private let snapshots: VolumeSnapshotSource?
    /// Detects changes of the disk; `nil` if changes are allowed.
    private let claim: Claim?
    private let events: any EventSink
    private let purpose: Purpose

    /// The purpose of reading a disk: it decides which ways out a refusal names.
    package enum Purpose {
        case capture
        /// A restore onto another disk.
        case clone
        /// Reads at any place, for as long as other programs ask for them.
        case randomAccess
    }

    /// Whether the contents of a virtual machine's disk image are captured, and not the bytes of a disk.
    package var isVirtual: Bool { virtual != nil }
    /// The description of the image that a kept overlay lies over.
    package var origin: Manifest? { virtual?.origin?.manifest }

    /// Refuses a disk that may change during the capture, or makes snapshots of the volumes that may change.
    package init(
        _ disk: OpenedDisk, _ virtual: VirtualSource? = nil, for purpose: Purpose = .capture, usesSnapshots: Bool,
        rescues: Bool, allowMounted: Bool, _ events: any EventSink, _ cancellation: Cancellation
    ) throws {
        self.purpose = purpose
        self.events = events
        self.disk = disk
        self.virtual = virtual
        // The caches of a disk and of its partitions are separate: data written through a partition's node must be seen
        // here.
        if disk.device.isDevice { disk.device.dropCache(0..<disk.device.byteCount) }
        let left = disk.uses.compactMap { use -> String? in
            guard let place = use.mountPointReadWrite else { return nil }
            return usesSnapshots && VolumeSnapshotSource.covers(use) ? nil : place
        }
        if !left.isEmpty, !allowMounted { throw Self.refusal(disk.identity.path, left, usesSnapshots, purpose) }
        // The kernel knows uses that the mount table does not name: a member of a larger filesystem, another mount
        // namespace.
        if !allowMounted, !usesSnapshots, disk.isHeldByUnknown {
            throw JobFailure(
                .refused,
                "\(disk.identity.path) is in use, and its contents may change: stop what uses it"
                    + (purpose == .capture ? ", or capture it anyway with --allow-mounted" : ""))
        }
        var claim: Claim?
        do {
            claim = try disk.claimSource(
                otherwise: purpose == .capture ? "; --allow-mounted captures anyway" : "", events)
        } catch {
            guard allowMounted else { throw error }
            events.warn("source-changes", JobFailure(error, cancellation: cancellation).message)
        }
        self.claim = allowMounted || usesSnapshots ? nil : claim
        var uncovered: [String] = []
        snapshots =
            usesSnapshots
            ? try VolumeSnapshotSource.begin(
                device: disk.device,
                allowUncovered: { places throws(ImagingError) in
                    // A volume may lie on LUKS or RAID, which LVM's names do not show; its snapshot is not visible on
                    // the disk.
                    guard allowMounted else {
                        throw .refused(Self.refusal(disk.identity.path, places, usesSnapshots, purpose).message)
                    }
                    uncovered = places
                }, cancellation: cancellation, note: events.log) : nil
        mountedReadWrite = left + uncovered.filter { !left.contains($0) }
        let base = virtual?.reader ?? snapshots?.reader ?? disk.device
        // A read past the cache loses only the bad sector itself.
        let sectors = snapshots == nil && disk.device.isDevice ? DirectReader(disk.device) : nil
        reader =
            rescues
            ? RescueReader(base, sectors: sectors, cancellation: cancellation, note: { events.log($0) }) : base
    }

    /// The refusal of a mounted disk, with every way to a source that does not change.
    private static func refusal(
        _ path: String, _ mounted: [String], _ usesSnapshots: Bool, _ purpose: Purpose
    ) -> JobFailure {
        guard purpose != .randomAccess else {
            return JobFailure(
                .refused,
                "\(path) has filesystems that are mounted read-write: \(mounted.joined(separator: ", ")). Unmount them "
                    + "first, or capture it and give the image")
        }
        guard purpose == .capture else {
            return JobFailure(
                .refused,
                """
                \(path) has filesystems that are mounted read-write: \(mounted.joined(separator: ", ")). What can be cloned:
                  an unmounted disk: unmount them first
                  the disk of a running system: boot the recovery medium, and clone it there
                  a system on LVM: capture it with --snapshot, and restore that image
                """)
        }
        return JobFailure(
            .refused,
            """
            \(path) has filesystems that are mounted read-write\(usesSnapshots ? " and are not LVM volumes right on its partitions (not on LUKS or RAID)" : ""): \
            \(mounted.joined(separator: ", ")). What can be captured:
              an unmounted disk: unmount them first
              a system on LVM: --snapshot reads its mounted volumes from LVM snapshots
              a virtual machine: capture its disk image while it is shut down, or a snapshot of it
              anything: boot the recovery medium (or let GRUB or PXE boot it with reforge.capture=)
            --allow-mounted captures anyway (those partitions whole, and possibly inconsistent)
            """)
    }

    /// Reads the table, the volumes, and how the disk boots.
    package func survey(allUsed: Bool, skipPageFiles: Bool, trustMaps: Bool, unlocker: LUKSUnlocker?) throws
        -> DiskSurvey
    {
        let survey = try DiskSurveyor.survey(
            reader, identity: origin?.disk ?? disk.identity, geometry: virtual?.geometry ?? disk.device.geometry,
            mountedReadWrite: mountedReadWrite.isEmpty && snapshots != nil ? [] : disk.mountedReadWriteRanges,
            allUsed: allUsed, skipPageFiles: skipPageFiles, trustMaps: trustMaps, unlocker: unlocker,
            descriptor: isVirtual ? nil : disk.device.fileDescriptor.rawValue)
        return survey.takingWhole(unreadable: reader.unreadable)
    }

    /// Fails if the read data is not of one moment: a snapshot overflowed, or the disk was written to.
    package func check() throws {
        try snapshots?.check()
        do throws(ImageError) { try virtual?.disk.confirmEnd() } catch { throw ImagingError.image(error) }
        guard let change else { return }
        guard purpose != .randomAccess else {
            throw ImagingError.failed(
                "\(disk.identity.path) did not hold still: \(change) while it was read, and what was read mixes two states. "
                    + "Stop what writes it, and read it again")
        }
        guard purpose == .capture else {
            throw ImagingError.failed(
                "\(disk.identity.path) did not hold still: \(change) while it was read, and the target would mix two states. "
                    + "Stop what writes to it")
        }
        throw ImagingError.failed(
            "\(disk.identity.path) did not hold still: \(change) while it was captured, and the image would mix two states. Stop what "
                + "writes to it, and capture it again (--allow-mounted captures it anyway)")
    }

    /// The changes made to the disk since it was claimed, as a sentence; `nil` without changes.
    package var change: String? { claim?.change() }

    /// Removes the snapshots.
    package func end() {
        do { try snapshots?.end() } catch { events.warn("snapshot-left", "\(error)") }
    }
}
