// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import FilesystemResize
import Filesystems
import LinuxSystem
import SystemPackage

/// Carries out the resizes of a restore plan: on a composite with the scratch where a filesystem is longer than its place,
/// and through its key where it lies inside of LUKS, which itself fills its place whenever it is opened.
struct RestoreResizer {
    let plan: RestorePlan
    let target: FilePath
    /// The logical sector size in bytes of the disk that was captured.
    let capturedSectorSize: Int
    let scratch: RestoreScratch?
    let keyFiles: [FilePath]
    let log: (String) -> Void

    /// What came of a growth.
    struct Growth {
        /// The new length in bytes; `nil` of what kept its size.
        var byteCount: UInt64?
        /// What a person should know.
        var remarks: [String] = []
        /// Volumes of a group that were not grown: why.
        var failures: [String] = []
    }

    private var sectorSize: Int { plan.geometry.logicalSectorSize }

    private func place(_ range: ByteRange) -> ResizePlace {
        .part(of: target, range: range, sectorSize: sectorSize)
    }

    // MARK: smaller

    /// Makes what a partition holds end with its place.
    /// - Parameter settle: brings everything to the disk, where other nodes see it.
    /// - Throws: `ResizeError` or `ImagingError`; then the place holds only a part.
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
                return try VolumeGroupResizer.shrink(filesystem, to: volumes, byteCount: room, on: place, log: log)
            }
            guard contents != nil else { return try change(.device(composite)) }
            return try opened(composite, whole) { try change(.device($0.path)) }
        }
        try settle()
        // By itself, without the scratch.
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
        guard let scratch, let overhang = plan.overhangs.first(where: { $0.place == shrink.range }) else {
            throw ImagingError.failed("there is no scratch for it")
        }
        let rest = plan.restByteCount(of: shrink.fromByteCount, behind: shrink.range)
        let composite = try CompositeDevice(
            disk: target, front: shrink.range, scratch: scratch.path,
            rest: overhang.scratchOffset..<overhang.scratchOffset + rest, sectorSize: sectorSize)
        let value = try body(composite.path, 0..<shrink.range.byteCount + rest)
        try composite.close()
        return value
    }

    /// What is inside of a LUKS volume in its smaller place must be all there.
    private func checkInside(
        _ opened: OpenedLUKS, _ room: UInt64, _ filesystem: FilesystemInfo, _ volumes: [UInt64]?
    ) throws {
        if let volumes {
            return try VolumeGroupResizer.check(filesystem, has: volumes, on: .device(opened.path), log: log)
        }
        let found = try survey(opened)
        guard opened.byteCount == room, found.kind == filesystem.kind, let length = found.byteCount, length <= room
        else {
            throw ImagingError.failed("what is inside of its LUKS volume does not end where it should")
        }
    }

    // MARK: larger

    /// Makes what a partition holds fill its place.
    /// - Throws: `ResizeError` or `ImagingError` where it was not grown.
    func grow(_ growth: RestorePlan.Growth) throws -> Growth {
        if growth.filesystem.kind == .luks {
            // Without a key there is nothing to do: the plan says what is to be done later.
            guard !keyFiles.isEmpty else { return Growth() }
            do { return try opened(target, growth.range) { try growInside($0, growth) } } catch LUKSOpenError.wrongKey {
                return Growth(remarks: [
                    "none of the given keys opens it (--luks-key-file): what is inside keeps its size"
                ])
            }
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

    /// What is inside of a LUKS volume is seen only now, where it was captured without its key.
    private func growInside(_ opened: OpenedLUKS, _ growth: RestorePlan.Growth) throws -> Growth {
        let inner = try survey(opened)
        if let obstacle = obstacle(toGrow: inner, in: opened, growth) {
            return Growth(remarks: ["what is inside of it (\(inner.kindName)) keeps its size: \(obstacle)"])
        }
        var volumes = growth.volumeByteCounts
        if inner.kind == .lvm, volumes == nil {
            volumes = VolumeGroupLayout(inner)?.byteCounts(on: opened.byteCount, policy: plan.request.policy)
            guard volumes != nil else { throw ImagingError.failed("its logical volumes do not add up") }
        }
        return try grow(inner, to: volumes, on: .device(opened.path))
    }

    private func obstacle(
        toGrow inner: FilesystemInfo, in opened: OpenedLUKS, _ growth: RestorePlan.Growth
    ) -> String? {
        if let obstacle = inner.resizeAbility.growObstacle { return obstacle }
        if let group = inner.volumeGroup {
            guard capturedSectorSize == sectorSize else { return ResizeObstacles.otherSectors }
            return VolumeGroupResizer.obstacle(to: group)
        }
        guard inner.growsOnSectors(of: opened.logicalSectorSize) else {
            return "it was made for sectors of another size"
        }
        // What stands behind the end of a filesystem must stay there.
        let captured = plan.items.first { $0.number == growth.number }?.from.byteCount ?? 0
        guard captured > opened.geometry.dataStart,
            LayoutPlanner.fills(inner, 0..<captured - opened.geometry.dataStart)
        else { return "something may stand behind the end of it" }
        return nil
    }

    // MARK: LUKS

    private func survey(_ opened: OpenedLUKS) throws -> FilesystemInfo {
        try VolumeIdentifier.survey(
            opened, secondOpinion: SecondOpinion(descriptor: opened.fileDescriptor.rawValue)
        ).0
    }

    /// Has a LUKS volume open, with the first key that fits, while `body` runs.
    private func opened<Value>(
        _ disk: FilePath, _ range: ByteRange, _ body: (OpenedLUKS) throws -> Value
    ) throws -> Value {
        let opened = try open(disk, range)
        defer { opened.close() }
        let value = try body(opened)
        guard opened.close() else {
            throw ImagingError.failed(
                "the opened LUKS volume (\(opened.path)) could not be closed again: something on this machine uses it (`lsblk` shows what)"
            )
        }
        return value
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
