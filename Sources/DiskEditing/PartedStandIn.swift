// SPDX-License-Identifier: GPL-3.0-or-later
import CParted
import DiskModel
import LinuxSystem
import Synchronization
import SystemPackage

/// A sparse file that libparted edits instead of a disk: libparted never touches a disk, and the caller writes the
/// resulting bytes in its own order (libparted writes block 0 first; the commit point needs it last).
struct PartedStandIn: ~Copyable {
    // libparted keeps global state: its exception handler, its list of devices, PARTED_SECTOR_SIZE.
    private static let lock = Mutex(())
    private static let lastMessage = Mutex("")

    private let folder: FilePath
    let path: FilePath
    let sectorSize: Int

    private init(sectorSize: Int, workFolder: FilePath?) throws {
        folder = try Self.makeWorkFolder(workFolder)
        path = folder.appending("stand-in")
        self.sectorSize = sectorSize
    }

    deinit {
        try? Files.remove(path)
        try? Files.removeFolder(folder)
    }

    /// Runs `body` with a stand-in for disks with sectors of `sectorSize` bytes, with exclusive use of libparted.
    static func with<Value>(
        sectorSize: Int, workFolder: FilePath?, _ body: (borrowing PartedStandIn) throws -> Value
    ) throws(TableEditError) -> Value {
        do {
            return try lock.withLock { _ in
                setenv("PARTED_SECTOR_SIZE", "\(sectorSize)", 1)
                defer { unsetenv("PARTED_SECTOR_SIZE") }
                ped_exception_set_handler(answer)
                lastMessage.withLock { $0 = "" }
                let standIn = try PartedStandIn(sectorSize: sectorSize, workFolder: workFolder)
                return try body(standIn)
            }
        } catch let error as TableEditError {
            throw error
        } catch {
            throw TableEditError("could not make the partition table: \(error)")
        }
    }

    /// Recreates the stand-in as a disk of that length with these bytes.
    func fill(byteCount: UInt64, _ pieces: [(offset: UInt64, bytes: [UInt8])]) throws {
        try? Files.remove(path)
        let file = try OwnedDescriptor.open(
            path, .readWrite, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: byteCount)
        for piece in pieces { try file.raw.writeAll(toAbsoluteOffset: Int64(piece.offset), piece.bytes) }
        try file.close()
    }

    /// Access for Reforge's own reader.
    func open() throws -> BlockDevice { try BlockDevice(opening: path, sectorSize: sectorSize) }

    /// libparted's message about its last failure.
    static func failure(_ what: String) -> TableEditError {
        let message = lastMessage.withLock { $0 }
        return TableEditError("libparted could not \(what)\(message.isEmpty ? "" : ": \(message)")")
    }

    /// Answers "fix" to every question of libparted that can be fixed: the stand-in has another length than the
    /// captured disk, so it asks about the backup's place and the space behind it. Anything else is kept for the error.
    private static let answer: @convention(c) (UnsafeMutablePointer<PedException>?) -> PedExceptionOption = {
        exception in
        guard let exception = exception?.pointee else { return PED_EXCEPTION_UNHANDLED }
        let options = exception.options.rawValue
        if options & PED_EXCEPTION_FIX.rawValue != 0 { return PED_EXCEPTION_FIX }
        // "One copy is corrupt, but the other appears OK, so that will be used": the only question with these options.
        if options == PED_EXCEPTION_OK.rawValue | PED_EXCEPTION_CANCEL.rawValue { return PED_EXCEPTION_OK }
        let isFatal = exception.type.rawValue >= PED_EXCEPTION_ERROR.rawValue
        if !isFatal, options & PED_EXCEPTION_IGNORE.rawValue != 0 { return PED_EXCEPTION_IGNORE }
        if let message = exception.message { lastMessage.withLock { $0 = String(cString: message) } }
        return PED_EXCEPTION_CANCEL
    }

    /// A folder for the stand-in. The file is sparse but as long as the disk: ext4 holds no file
    /// over 16 TiB, a tmpfs does.
    private static func makeWorkFolder(_ workFolder: FilePath?) throws -> FilePath {
        if let workFolder { return try Files.makeTemporaryFolder("reforge-table", in: workFolder) }
        for folder in ["/dev/shm", "/run"] as [FilePath] {
            if let made = try? Files.makeTemporaryFolder("reforge-table", in: folder) { return made }
        }
        return try Files.makeTemporaryFolder("reforge-table")
    }
}
