// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FilesystemResize
import Filesystems
import LinuxSystem
import SystemPackage

/// Performs the resizes of a restore plan: on a composite with the scratch if a filesystem is longer than its place,
/// and through the key if it lies inside LUKS, which itself fills its place whenever it is opened.
struct RestoreResizer {
    let plan: RestorePlan
    let target: FilePath
    /// The logical sector size of the captured disk, in bytes.
    let capturedSectorSize: Int
    let scratch: RestoreScratch?
    let keyFiles: [FilePath]
    let cancellation: Cancellation
    let log: (String) -> Void

    /// The result of a growth.
    struct Growth {
        /// The new length in bytes; `nil` if the size was kept.
        var byteCount: UInt64?
        /// Remarks for a person.
        var remarks: [String] = []
        /// The volumes of a group that were not grown, with the reasons.
        var failures: [String] = []
    }

    private var sectorSize: Int { plan.geometry.logicalSectorSize }

    private func place(_ range: ByteRange) -> ResizePlace {
        .part(of: target, range: range, sectorSize: sectorSize)
    }

    // MARK: smaller

    /// Shrinks the contents of a partition to its place.
    /// - Parameter settle: flushes everything to the disk, where other nodes see it.
    /// - Throws: `ResizeError` or `ImagingError`; then the place holds only a part of the contents.
    func shrink(_ shrink: RestorePlan.Shrink, settle: () throws -> Void) throws -> FilesystemResizer.Outcome {
        let length = shrink.range.byteCount
        guard shrink.needsComposite else {
            return try FilesystemResizer.shrink(shrink.filesystem, to: length, on: place(shrink.range), log: log)
        }
        let contents = EncryptedContents(shrink.filesystem)
        guard let room = contents.map({ $0.byteCount(in: length) }) ?? length else {
            throw ImagingError.failed("the place has no room for more than a LUKS header")
        }
        let filesystem = contents?.inner ?? shrink.filesystem
        let made = try onComposite(shrink) { composite, whole in
            func change(_ place: ResizePlace) throws -> FilesystemResizer.Outcome {
                guard let volumes = shrink.volumeByteCounts else {
                    return try FilesystemResizer.shrink(filesystem, to: room, on: place, log: log)
                }
                return try VolumeGroupResizer.shrink(
                    filesystem, to: volumes, byteCount: room, on: place, cancellation: cancellation, log: log)
            }
            guard let contents else { return try change(.device(composite)) }
            do { return try opened(composite, whole) { try change(.device($0.path)) } } catch let error as ResizeError {
                guard case .tooSmall(let requested, let least) = error.problem else { throw error }
                // A user can set the length of the partition only, not that of its contents.
                let (whole, overflow) = least.addingReportingOverflow(contents.headerByteCount)
                throw ResizeError(
                    .tooSmall(
                        requested: requested + contents.headerByteCount, leastByteCount: overflow ? .max : whole),
                    state: error.state)
            }
        }
        try settle()
        // Check the place alone, without the scratch.
        if contents != nil {
            try opened(target, shrink.range) { try checkInside($0, room, filesystem, shrink.volumeByteCounts) }
        } else if let volumes = shrink.volumeByteCounts {
            try VolumeGroupResizer.check(filesystem, has: volumes, on: place(shrink.range), log: log)
        }
        return made
    }

    private func onComposite<Value>(
        _ shrink: RestorePlan.Shrink, _ body: (FilePath, ByteRange) throws -> Value
    ) throws -> Value {
        guard let scratch, let spill = plan.spill(of: shrink) else {
            throw ImagingError.failed("there is no scratch for it")
        }
        let rest = plan.restByteCount(of: shrink.fromByteCount, behind: shrink.range)
        let composite = try CompositeDevice(
            disk: target, front: shrink.range, scratch: scratch.path,
            rest: spill.scratchOffset..<spill.scratchOffset + rest, sectorSize: sectorSize)
        let value = try body(composite.path, 0..<shrink.range.byteCount + rest)
        try composite.close()
        return value
    }

    /// Checks that the contents of a LUKS volume fit its smaller place completely.
    private func checkInside(
        _ opened: OpenedLUKS, _ room: UInt64, _ filesystem: FilesystemInfo, _ volumes: [UInt64]?
    ) throws {
        if let volumes {
            return try VolumeGroupResizer.check(filesystem, has: volumes, on: .device(opened.path), log: log)
        }
        let found = try survey(opened, opened)
        guard opened.byteCount == room, found.kind == filesystem.kind, let length = found.byteCount, length <= room
        else {
            throw ImagingError.failed("the contents of its LUKS volume do not have the planned length")
        }
    }

    // MARK: larger

    /// Grows the contents of a partition to fill its place.
    /// - Throws: `ResizeError` or `ImagingError` if they were not grown.
    func grow(_ growth: RestorePlan.Growth) throws -> Growth {
        if growth.filesystem.kind == .luks {
            let opened = try open(target, growth.range)
            defer { opened.close() }
            var grown = try growInside(opened, growth)
            if !opened.close() { grown.failures.append(Self.stillOpen(opened)) }
            return grown
        }
        return try grow(growth.filesystem, to: growth.volumeByteCounts, on: place(growth.range))
    }

    private func grow(
        _ filesystem: FilesystemInfo, to volumes: [UInt64]?, on place: ResizePlace
    ) throws(ResizeError) -> Growth {
        guard let volumes else {
            let made = try FilesystemResizer.grow(filesystem, on: place, log: log)
            return Growth(byteCount: made.byteCount, remarks: made.remarks)
        }
        let (made, failures) = try VolumeGroupResizer.grow(filesystem, to: volumes, on: place, log: log)
        return Growth(byteCount: made.byteCount, remarks: made.remarks, failures: failures)
    }

    /// Grows the contents of an opened LUKS volume. If it was captured without its key, they are surveyed only here.
    private func growInside(_ opened: OpenedLUKS, _ growth: RestorePlan.Growth) throws -> Growth {
        // Surveyed at the captured length: in a longer volume, the metadata of a physical volume may refer to more.
        let captured = plan.items.first { $0.number == growth.number }?.from.byteCount ?? 0
        guard captured > opened.geometry.dataStart,
            let before = BlockSlice(opened, range: 0..<captured - opened.geometry.dataStart)
        else { throw ImagingError.failed("its contents are not at the captured offset") }
        let inner = try survey(before, opened)
        if let obstacle = obstacle(toGrow: inner, of: before.byteCount, in: opened) {
            // Planned, but no longer possible (a twin was attached meanwhile).
            guard growth.volumeByteCounts == nil else { throw ImagingError.failed(obstacle) }
            return Growth(remarks: ["its contents (\(inner.kindName)) keep their size: \(obstacle)"])
        }
        var volumes = growth.volumeByteCounts
        if inner.kind == .lvm, volumes == nil {
            volumes = VolumeGroupLayout(inner)?.byteCounts(on: opened.byteCount, policy: plan.request.policy)
            guard volumes != nil else { throw ImagingError.failed("its logical volumes do not add up") }
        }
        return try grow(inner, to: volumes, on: .device(opened.path))
    }

    private func obstacle(toGrow inner: FilesystemInfo, of byteCount: UInt64, in opened: OpenedLUKS) -> String? {
        if let obstacle = inner.resizeAbility.growObstacle { return obstacle }
        guard inner.growsOnSectors(of: opened.logicalSectorSize) else {
            return "it was made for sectors of another size"
        }
        // Data after the end of a filesystem must stay there.
        guard LayoutPlanner.fills(inner, 0..<byteCount) else { return "something may stand behind the end of it" }
        guard let group = inner.volumeGroup else { return nil }
        return capturedSectorSize == sectorSize
            ? VolumeGroupResizer.obstacle(to: group) : ResizeObstacles.otherSectors
    }

    // MARK: LUKS

    /// Surveys an opened volume, or the front of it.
    private func survey(_ volume: any BlockReader, _ opened: OpenedLUKS) throws -> FilesystemInfo {
        try VolumeIdentifier.survey(
            volume, secondOpinion: SecondOpinion(descriptor: opened.fileDescriptor.rawValue)
        ).0
    }

    /// Runs `body` with an opened LUKS volume, by the first key that fits.
    private func opened<Value>(
        _ disk: FilePath, _ range: ByteRange, _ body: (OpenedLUKS) throws -> Value
    ) throws -> Value {
        let opened = try open(disk, range)
        defer { opened.close() }
        let value = try body(opened)
        guard opened.close() else { throw ImagingError.failed(Self.stillOpen(opened)) }
        return value
    }

    private static func stillOpen(_ opened: OpenedLUKS) -> String {
        "the opened LUKS volume (\(opened.path)) could not be closed again: something on this machine uses it (`lsblk` shows what)"
    }

    private func open(_ disk: FilePath, _ range: ByteRange) throws -> OpenedLUKS {
        for keyFile in keyFiles {
            do throws(LUKSOpenError) {
                return try OpenedLUKS(
                    disk: disk, range: range, sectorSize: sectorSize, keyFile: keyFile, readOnly: false)
            } catch {
                guard error == .wrongKey else { throw ImagingError.failed("it could not be opened: \(error)") }
            }
        }
        throw LUKSOpenError.wrongKey
    }
}
