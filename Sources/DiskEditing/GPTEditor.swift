// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
internal import CParted
public import DiskModel
import Filesystems
import LinuxSystem
import Synchronization
import SystemPackage

/// Makes a captured GPT fit another disk, through libparted.
///
/// libparted never touches a disk: it edits a sparse stand-in file of the target's size, and the caller writes the
/// resulting bytes in an order of its own (libparted writes block 0 first; the commit point needs it last).
public enum GPTEditor {
    // libparted keeps global state: its exception handler, its list of devices, PARTED_SECTOR_SIZE.
    private static let lock = Mutex<[String]>([])

    /// The table of `captured` with its partitions at new places, for a disk of `geometry`.
    /// - Parameters:
    ///   - captured: a table whose primary or backup copy is good.
    ///   - partitions: where every partition goes, by number, in bytes.
    /// - Returns: the bytes of both ends of the target. GUIDs, names and attribute bits are those of `captured`.
    public static func relocate(
        _ captured: CapturedTable, to geometry: DiskGeometry, partitions: [Int: ByteRange],
        workFolder: FilePath? = nil
    ) throws(TableEditError) -> CapturedTable {
        do {
            return try lock.withLock { messages in
                messages = []
                let folder = try makeWorkFolder(workFolder)
                let path = folder.appending("stand-in")
                defer {
                    try? Files.remove(path)
                    try? Files.removeFolder(folder)
                }
                setenv("PARTED_SECTOR_SIZE", "\(captured.sectorSize)", 1)
                defer { unsetenv("PARTED_SECTOR_SIZE") }
                ped_exception_set_handler(answer)
                // First at its own size, so that a good backup mends a damaged primary while it is where the format
                // looks for it; then at the size of the target.
                var table = captured
                try makeStandIn(path, table, byteCount: captured.byteCount)
                try edit(path, partitions: [:])
                table = try readBack(path, captured)
                let mended = try GPTReader.read(try BlockDevice(opening: path, sectorSize: captured.sectorSize))
                try makeStandIn(path, table, byteCount: geometry.byteCount)
                try edit(path, partitions: partitions)
                table.byteCount = geometry.byteCount
                let result = try readBack(path, table)
                try checkResult(captured, mended, path, partitions)
                return result
            }
        } catch let error as TableEditError {
            throw error
        } catch {
            throw TableEditError("could not make the partition table: \(error)")
        }
    }

    /// Answers "fix" to every question of libparted that can be fixed: the stand-in has another length than the
    /// captured disk, so that it asks about the backup's place and the space behind it. What cannot be fixed is
    /// kept for the error.
    private static let answer: @convention(c) (UnsafeMutablePointer<PedException>?) -> PedExceptionOption = {
        exception in
        guard let exception = exception?.pointee else { return PED_EXCEPTION_UNHANDLED }
        let options = exception.options.rawValue
        if options & PED_EXCEPTION_FIX.rawValue != 0 { return PED_EXCEPTION_FIX }
        // "One copy is corrupt, but the other appears OK, so that will be used": the only question of this form.
        if options == PED_EXCEPTION_OK.rawValue | PED_EXCEPTION_CANCEL.rawValue { return PED_EXCEPTION_OK }
        let isFatal = exception.type.rawValue >= PED_EXCEPTION_ERROR.rawValue
        if !isFatal, options & PED_EXCEPTION_IGNORE.rawValue != 0 { return PED_EXCEPTION_IGNORE }
        if let message = exception.message { lastMessage.withLock { $0 = String(cString: message) } }
        return PED_EXCEPTION_CANCEL
    }
    private static let lastMessage = Mutex("")

    private static func failure(_ what: String) -> TableEditError {
        let message = lastMessage.withLock { $0 }
        return TableEditError("libparted could not \(what)\(message.isEmpty ? "" : ": \(message)")")
    }

    private static func makeStandIn(_ path: FilePath, _ table: CapturedTable, byteCount: UInt64) throws {
        try? Files.remove(path)
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: byteCount)
        if byteCount < table.byteCount {
            // There is no place for the old backup, and libparted gives up where it cannot even look for it: the
            // primary names the new end, and the missing backup is made from it.
            try file.raw.writeAll(toAbsoluteOffset: 0, try headNaming(table, byteCount: byteCount))
        } else {
            try file.raw.writeAll(toAbsoluteOffset: 0, table.head)
            try file.raw.writeAll(toAbsoluteOffset: Int64(table.tailOffset), table.tail)
        }
        try file.close()
    }

    /// A folder for the stand-in, which is as long as the disk, though sparse: ext4 holds no file over 16 TiB, memory does.
    private static func makeWorkFolder(_ workFolder: FilePath?) throws -> FilePath {
        if let workFolder { return try Files.makeTemporaryFolder("reforge-table", in: workFolder) }
        for folder in ["/dev/shm", "/run"] as [FilePath] {
            if let made = try? Files.makeTemporaryFolder("reforge-table", in: folder) { return made }
        }
        return try Files.makeTemporaryFolder("reforge-table")
    }

    /// The front of a table with the end of the disk elsewhere (UEFI 2.10 §5.3.2).
    private static func headNaming(_ table: CapturedTable, byteCount: UInt64) throws -> [UInt8] {
        var head = table.head
        let sector = table.sectorSize
        let headerByteCount = Int(try head.littleEndian(UInt32.self, at: sector + 12))
        let lastUsable = try head.littleEndian(UInt64.self, at: sector + 48)
        let oldLast = table.byteCount / UInt64(sector) - 1
        let newLast = byteCount / UInt64(sector) - 1
        guard headerByteCount >= 92, headerByteCount <= sector, lastUsable <= oldLast, newLast > oldLast - lastUsable
        else {
            throw TableEditError("the captured partition table does not fit \(byteCount) bytes")
        }
        // As much room as the backup had, or as its entries and header take where it was not at the end.
        let entryByteCount =
            UInt64(try head.littleEndian(UInt32.self, at: sector + 80))
            * UInt64(try head.littleEndian(UInt32.self, at: sector + 84))
        let reserve = min(oldLast - lastUsable, (entryByteCount + UInt64(sector) - 1) / UInt64(sector) + 1)
        head.setLittleEndian(newLast, at: sector + 32)
        head.setLittleEndian(newLast - reserve, at: sector + 48)
        head.setLittleEndian(UInt32(0), at: sector + 16)
        head.setLittleEndian(CRC32.iso.checksum(head[sector..<sector + headerByteCount]), at: sector + 16)
        return head
    }

    private static func edit(_ path: FilePath, partitions: [Int: ByteRange]) throws {
        lastMessage.withLock { $0 = "" }
        guard let device = ped_device_get(path.string) else { throw failure("open the stand-in") }
        defer { ped_device_destroy(device) }
        guard let disk = ped_disk_new(device) else { throw failure("read the captured partition table") }
        defer { ped_disk_destroy(disk) }
        guard let type = disk.pointee.type, let name = type.pointee.name, String(cString: name) == "gpt" else {
            throw TableEditError("the captured partition table is not a GPT")
        }
        let sectorSize = UInt64(device.pointee.sector_size)
        var moves: [(number: Int, old: ByteRange, new: ByteRange)] = []
        for (number, new) in partitions {
            guard let partition = ped_disk_get_partition(disk, Int32(clamping: number)) else {
                throw TableEditError("the captured table has no partition \(number)")
            }
            let start = UInt64(partition.pointee.geom.start) * sectorSize
            let old = start..<start + UInt64(partition.pointee.geom.length) * sectorSize
            guard new.lowerBound % sectorSize == 0, new.upperBound % sectorSize == 0 else {
                throw TableEditError("partition \(number) would not start or end on a sector")
            }
            if old != new { moves.append((number, old, new)) }
        }
        // Those that go up first, the last one leading, then those that go down, the first one leading: so that none
        // is in the way of another.
        let up = moves.filter { $0.new.upperBound > $0.old.upperBound }.sorted { $0.old.lowerBound > $1.old.lowerBound }
        let down = moves.filter { $0.new.upperBound <= $0.old.upperBound }.sorted {
            $0.old.lowerBound < $1.old.lowerBound
        }
        for move in up + down {
            guard let partition = ped_disk_get_partition(disk, Int32(clamping: move.number)),
                let geometry = ped_geometry_new(
                    device, PedSector(move.new.lowerBound / sectorSize), PedSector(move.new.byteCount / sectorSize))
            else { throw failure("place partition \(move.number)") }
            defer { ped_geometry_destroy(geometry) }
            guard let constraint = ped_constraint_exact(geometry) else {
                throw failure("place partition \(move.number)")
            }
            defer { ped_constraint_destroy(constraint) }
            guard
                ped_disk_set_partition_geom(disk, partition, constraint, geometry.pointee.start, geometry.pointee.end)
                    != 0
            else { throw failure("move partition \(move.number)") }
        }
        guard ped_disk_commit_to_dev(disk) != 0 else { throw failure("write the table") }
    }

    private static func readBack(_ path: FilePath, _ like: CapturedTable) throws -> CapturedTable {
        let standIn = try BlockDevice(opening: path, sectorSize: like.sectorSize)
        guard let table = try GPTReader.read(standIn) else {
            throw TableEditError("libparted left no valid GPT behind")
        }
        var result = try CapturedTable(reading: standIn, table: table)
        // The front keeps at least the length that was captured: boot code may stand behind the entries.
        if result.head.count < like.head.count { result.head = try standIn.readBytes(at: 0, count: like.head.count) }
        return result
    }

    /// Our own reader's word on what libparted made: same partitions, at the places that were asked for.
    private static func checkResult(
        _ captured: CapturedTable, _ old: PartitionTable?, _ path: FilePath, _ partitions: [Int: ByteRange]
    ) throws {
        let standIn = try BlockDevice(opening: path, sectorSize: captured.sectorSize)
        guard let made = try GPTReader.read(standIn), made.condition == .intact else {
            throw TableEditError("the partition table made for this disk is not valid")
        }
        for (number, range) in partitions {
            guard made.partitions.first(where: { $0.number == number })?.range == range else {
                throw TableEditError("partition \(number) did not get the place that was planned for it")
            }
        }
        guard let old, made.partitions.count == old.partitions.count, made.diskGUID == old.diskGUID else {
            throw TableEditError("the partition table made for this disk has other partitions than the captured one")
        }
        for (before, after) in zip(old.partitions, made.partitions) {
            guard before.number == after.number, before.guid == after.guid, before.typeGUID == after.typeGUID,
                before.name == after.name, before.attributes == after.attributes
            else { throw TableEditError("partition \(after.number) did not keep its GUIDs, name and attributes") }
        }
    }
}
