// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import DiskModel
import Synchronization
import SystemPackage

/// An opened block device or raw image file. It closes with the last reference.
package final class BlockDevice: BlockWriter {
    package enum Access: Sendable {
        /// For reading only: the source of a capture.
        case readOnly
        /// For reading and writing. A device is opened with O_EXCL: the kernel refuses while it is mounted or held.
        case exclusiveWrite
        /// For reading only; refused while the device is mounted or held.
        case exclusiveRead
    }

    /// The path it was opened with.
    package let path: FilePath
    /// Whether it is a block device and not a file.
    package let isDevice: Bool
    /// Its size and units.
    package let geometry: DiskGeometry
    /// The device number (of the device itself, or of the filesystem that holds the file).
    package let deviceNumber: UInt64
    /// The inode number of a file; 0 for a device.
    package let inodeNumber: UInt64
    private let descriptor: OwnedDescriptor
    private let pending: PendingCalls
    private let kept = Mutex<[BlockDevice]>([])

    /// Opens a disk.
    /// - Parameter sectorSize: for files, the logical sector size to assume (512 or 4096).
    package init(
        opening path: FilePath, _ access: Access = .readOnly, sectorSize: Int = 512
    ) throws(SystemCallError) {
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", path.string, error) }
        var options: FileDescriptor.OpenOptions = []
        // O_EXCL without O_CREAT: for block devices only (open(2)).
        if status.type == .blockSpecial, access != .readOnly { options.insert(.exclusiveCreate) }
        let mode: FileDescriptor.AccessMode = access == .exclusiveWrite ? .readWrite : .readOnly
        descriptor = try OwnedDescriptor.open(path, mode, options: options)
        self.path = path
        // Queried again on the open descriptor: the path may name another file by now.
        let opened: Stat
        do { opened = try Stat(descriptor.raw) } catch { throw SystemCallError("inspect", path.string, error) }
        let fd = descriptor.raw.rawValue
        pending = PendingCalls(path.string, on: descriptor.raw)
        switch opened.type {
        case .blockSpecial:
            isDevice = true
            deviceNumber = UInt64(opened.specialDeviceID.rawValue)
            inodeNumber = 0
            geometry = try Self.deviceGeometry(fd, path)
        case .regular:
            isDevice = false
            deviceNumber = UInt64(opened.deviceID.rawValue)
            inodeNumber = UInt64(opened.inode.rawValue)
            geometry = DiskGeometry(
                byteCount: UInt64(max(0, opened.size)), logicalSectorSize: sectorSize, physicalSectorSize: sectorSize)
        default:
            throw SystemCallError("use", "\(path) as a disk: neither a block device nor a file", .invalidArgument)
        }
    }

    private static func deviceGeometry(_ fd: Int32, _ path: FilePath) throws(SystemCallError) -> DiskGeometry {
        var byteCount: UInt64 = 0
        var logical: Int32 = 512
        var physical: UInt32 = 512
        var alignment: Int32 = 0
        var optimal: UInt32 = 0
        try check(rf_block_byte_count(fd, &byteCount), "ask the size of", path.string)
        try check(rf_block_logical_sector(fd, &logical), "ask the sector size of", path.string)
        // The other values are hints that some drivers do not provide.
        _ = rf_block_physical_sector(fd, &physical)
        _ = rf_block_alignment_offset(fd, &alignment)
        _ = rf_block_optimal_io(fd, &optimal)
        return DiskGeometry(
            byteCount: byteCount, logicalSectorSize: Int(logical), physicalSectorSize: Int(physical),
            alignmentOffset: Int(max(0, alignment)), optimalIOSize: Int(optimal))
    }

    /// The length in bytes.
    package var byteCount: UInt64 { geometry.byteCount }
    /// The unit that the device addresses, in bytes.
    package var logicalSectorSize: Int { geometry.logicalSectorSize }
    package var name: String { path.string }
    /// The descriptor, for calls that this class does not make. It stays open during the lifetime of this object.
    package var fileDescriptor: FileDescriptor { descriptor.raw }

    /// Keeps another device open, with its locks, during the lifetime of this one.
    func keep(_ other: BlockDevice) { kept.withLock { $0.append(other) } }

    /// The kernel's sequence number of this attachment of the disk; `nil` for files and old kernels.
    package var diskSequence: UInt64? {
        var sequence: UInt64 = 0
        return isDevice && rf_block_disk_sequence(descriptor.raw.rawValue, &sequence) == 0 ? sequence : nil
    }

    /// Fills all of `buffer` from `offset` on.
    ///
    /// The corresponding C function is `pread`.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(at: offset, count: UInt64(buffer.count))
        var done = 0
        while done < buffer.count {
            do {
                let count = try pending.during(.read) {
                    try descriptor.raw.read(
                        fromAbsoluteOffset: Int64(offset) + Int64(done),
                        into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]))
                }
                guard count > 0 else {
                    // A disk whose medium was removed ends this way.
                    pending.noteLoss()
                    throw failure(.read, offset + UInt64(done), buffer.count - done, nil, "it ended early")
                }
                done += count
            } catch let error as BlockIOError {
                throw error
            } catch {
                throw failure(.read, offset + UInt64(done), buffer.count - done, error as? Errno ?? .ioError)
            }
        }
    }

    /// Writes all of `buffer` at `offset`.
    ///
    /// The corresponding C function is `pwrite`.
    package func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        try checkedRange(.write, at: offset, count: UInt64(buffer.count))
        var done = 0
        while done < buffer.count {
            do {
                let count = try pending.during(.write) {
                    try descriptor.raw.write(
                        toAbsoluteOffset: Int64(offset) + Int64(done),
                        UnsafeRawBufferPointer(rebasing: buffer[done...]))
                }
                guard count > 0 else {
                    throw failure(.write, offset + UInt64(done), buffer.count - done, nil, "no byte was written")
                }
                done += count
            } catch let error as BlockIOError {
                throw error
            } catch {
                throw failure(.write, offset + UInt64(done), buffer.count - done, error as? Errno ?? .ioError)
            }
        }
    }

    /// Makes every byte of `range` read as zero.
    ///
    /// The corresponding C functions are `ioctl(BLKZEROOUT)` for a device and `fallocate(FALLOC_FL_PUNCH_HOLE)` for a
    /// file.
    package func writeZeros(_ range: ByteRange) throws(BlockIOError) {
        guard !range.isEmpty else { return }
        try checkedRange(.zero, at: range.lowerBound, count: range.byteCount)
        let fd = descriptor.raw.rawValue
        if !isDevice {
            if pending.during(.write, { rf_fallocate_punch(fd, range.lowerBound, range.byteCount) }) == 0 { return }
            return try writeZeroBytes(range)
        }
        // BLKZEROOUT bypasses the page cache: only for whole pages. Otherwise another thread's pending write into the
        // same page would restore the old bytes.
        let page: UInt64 = 4096
        let start = min(range.upperBound, (range.lowerBound + page - 1) / page * page)
        let end = max(start, range.upperBound / page * page)
        guard start < end, pending.during(.write, { rf_block_zero_out(fd, start, end - start) }) == 0 else {
            return try writeZeroBytes(range)
        }
        try writeZeroBytes(range.lowerBound..<start)
        try writeZeroBytes(end..<range.upperBound)
    }

    private func writeZeroBytes(_ range: ByteRange) throws(BlockIOError) {
        let zeros = [UInt8](repeating: 0, count: Int(min(range.byteCount, 1 << 20)))
        var position = range.lowerBound
        while position < range.upperBound {
            let count = Int(min(range.upperBound - position, UInt64(zeros.count)))
            let start = position
            let result = zeros.withUnsafeBytes { bytes in
                Result { () throws(BlockIOError) in
                    try write(UnsafeRawBufferPointer(rebasing: bytes[..<count]), at: start)
                }
            }
            try result.get()
            position += UInt64(count)
        }
    }

    /// Tells the device that the contents of `range` no longer matter.
    ///
    /// The corresponding C functions are `ioctl(BLKDISCARD)` for a device and `fallocate(FALLOC_FL_PUNCH_HOLE)` for a
    /// file.
    package func discard(_ range: ByteRange) throws(BlockIOError) {
        let fd = descriptor.raw.rawValue
        try pending.during(.discard) { () throws(BlockIOError) in
            let result =
                isDevice
                ? rf_block_discard(fd, range.lowerBound, range.byteCount)
                : rf_fallocate_punch(fd, range.lowerBound, range.byteCount)
            guard result == 0 else {
                throw failure(
                    .discard, range.lowerBound, Int(clamping: range.byteCount), Errno(rawValue: -result))
            }
        }
    }

    /// Waits until all earlier writes are on the medium.
    ///
    /// The corresponding C function is `fsync`.
    package func flush() throws(BlockIOError) {
        try pending.during(.flush) { () throws(BlockIOError) in
            guard fsync(descriptor.raw.rawValue) == 0 else { throw failure(.flush, 0, 0, Errno(rawValue: errnoNow())) }
        }
    }

    /// Drops the kernel's cache of the device, so that another node of the same disk, or a read-back, sees the medium.
    package func dropCache() throws(BlockIOError) {
        try flush()
        let fd = descriptor.raw.rawValue
        pending.during(.flush) {
            if isDevice { _ = rf_block_flush_buffers(fd) }
            _ = rf_drop_cache(fd, 0, 0)
        }
    }

    /// Drops the cached pages of `range`, so that a large sequential pass does not evict everything else from memory.
    package func dropCache(_ range: ByteRange) {
        _ = rf_drop_cache(descriptor.raw.rawValue, range.lowerBound, range.byteCount)
    }

    /// Makes the kernel reread the partition table; `false` if it cannot (in use, a file, or no support).
    package func rereadPartitionTable() -> Bool {
        isDevice && rf_block_reread_partitions(descriptor.raw.rawValue) == 0
    }

    /// Adds a partition node without a table on the disk (`BLKPG_ADD_PARTITION`).
    package func addPartitionNode(_ number: Int, _ range: ByteRange) throws(SystemCallError) {
        try check(
            rf_block_add_partition(descriptor.raw.rawValue, Int32(clamping: number), range.lowerBound, range.byteCount),
            "add a node for partition \(number) of", path.string)
    }

    /// Removes a partition node (`BLKPG_DEL_PARTITION`).
    package func deletePartitionNode(_ number: Int) throws(SystemCallError) {
        try check(
            rf_block_delete_partition(descriptor.raw.rawValue, Int32(clamping: number)),
            "remove the node of partition \(number) of", path.string)
    }

    private func failure(
        _ operation: BlockIOError.Operation, _ offset: UInt64, _ count: Int, _ errno: Errno?, _ reason: String? = nil
    ) -> BlockIOError {
        BlockIOError(
            operation, name: name, offset: offset, byteCount: UInt64(count), errorNumber: errno?.rawValue ?? 0,
            reason: reason ?? errno?.sentence ?? "unknown")
    }
}
