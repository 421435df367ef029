// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

/// The device of a snapshot, until it is closed: LVM does not remove an open snapshot.
final class VolumeSnapshot: BlockReader {
    /// `group/name`.
    let fullName: String
    let byteCount: UInt64
    let logicalSectorSize: Int
    private let tag: ProcessTag
    private let device: Monitor<BlockDevice?>

    /// Finds and opens the snapshot of `volume` that has `tag`.
    init(of volume: LogicalVolumes.Volume, in lvm: LogicalVolumes, tag: ProcessTag) throws(ImagingError) {
        guard
            let snapshot = lvm.volumes.first(where: {
                $0.isSnapshot && $0.group == volume.group && $0.origin == volume.name && $0.tags.contains(tag.text)
            }), let number = snapshot.deviceNumber,
            let name = Files.realPath(FilePath("/sys/dev/block/\(number.major):\(number.minor)"))?.lastComponent?.string
        else { throw .failed("The snapshot of \(volume.fullName) is not there.") }
        guard snapshot.isActive else { throw VolumeSnapshotSource.outOfRoom(snapshot.fullName) }
        let device: BlockDevice
        do { device = try BlockDevice(opening: FilePath("/dev/\(name)")) } catch { throw ImagingError(error) }
        guard device.byteCount == volume.byteCount else {
            throw .failed("The snapshot of \(volume.fullName) has another size than the volume.")
        }
        fullName = snapshot.fullName
        byteCount = device.byteCount
        logicalSectorSize = device.logicalSectorSize
        self.tag = tag
        self.device = Monitor(device)
    }

    var name: String { fullName }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard let device = device.update({ $0 }) else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "the snapshot was given up")
        }
        do { try device.read(into: buffer, at: offset) } catch {
            // A snapshot that ran out of space fails every read: these are not errors of the disk, and must not be read
            // around.
            let state = (try? LogicalVolumes.snapshots(tagged: tag.text))?.first { $0.fullName == fullName }
            guard state?.isInvalid != false else { throw error }
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: VolumeSnapshotSource.outOfRoom(fullName).description)
        }
    }

    /// Closes the device; reads fail from now on.
    func close() { device.update { $0 = nil } }
}

/// Bytes in memory.
struct MemoryReader: BlockReader {
    private let bytes: [UInt8]
    let name: String
    let logicalSectorSize = 512
    var byteCount: UInt64 { UInt64(bytes.count) }

    init(_ bytes: [UInt8], name: String) {
        self.bytes = bytes
        self.name = name
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        bytes.withUnsafeBytes { bytes in
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset) + buffer.count]))
        }
    }
}

/// Zeros.
struct ZeroReader: BlockReader {
    let byteCount: UInt64
    let name = "zeros"
    let logicalSectorSize = 512

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
    }
}
