// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// A LUKS volume opened by `cryptsetup`: the device-mapper node with the decrypted content. Needs device-mapper.
///
/// The node disappears once this is closed, even if the process dies: it is removed right after it was opened, and the
/// kernel defers the removal until the last descriptor is closed.
package final class OpenedLUKS: BlockReader {
    /// The geometry of an open volume, from `cryptsetup status`.
    package struct Geometry: Equatable, Sendable {
        /// The offset of the encrypted sectors in the volume, in bytes.
        package var dataStart: UInt64
        /// The length of the encrypted sectors in bytes.
        package var byteCount: UInt64
        /// The length of an encrypted sector in bytes.
        package var sectorSize: Int
    }

    /// The node, `/dev/dm-N`.
    package let path: FilePath
    /// The part of the volume that the node shows.
    package let geometry: Geometry
    /// The length of the decrypted content in bytes.
    package let byteCount: UInt64
    /// The logical sector size of the node in bytes.
    package let logicalSectorSize: Int
    /// A name for messages.
    package var name: String { path.string }
    /// The node's descriptor; valid until this is closed.
    package let fileDescriptor: FileDescriptor
    /// The node's name for device-mapper.
    package let node: String
    private let state: Monitor<State>

    /// The resources that keep the node alive, in release order.
    private struct State {
        var isOpen = false
        var device: BlockDevice?
        var loop: Loop?
    }

    private final class Loop: Sendable {
        let device: LoopDevice
        init(_ device: consuming LoopDevice) { self.device = device }
    }

    /// Why no LUKS volume can be opened here, as a sentence; `nil` if one can.
    package static func obstacle() -> String? {
        guard ChildProcess.canFind("cryptsetup") else {
            return "`cryptsetup` is not installed (Debian package cryptsetup-bin)"
        }
        if let obstacle = DeviceMapper.obstacle() { return obstacle }
        return Files.mayWrite("/dev/loop-control") ? nil : "this needs loop devices, which cannot be created here"
    }

    /// Whether a key opens a LUKS volume, given a file that holds its header and key slots, and perhaps nothing
    /// else. Needs no device-mapper.
    package static func key(_ keyFile: FilePath, opens volume: FilePath) throws(LUKSOpenError) -> Bool {
        let output = try run([
            "open", "--type", "luks", "--batch-mode", "--disable-locks", "--test-passphrase", "--key-file=\(keyFile)",
            volume.string,
        ])
        if output.succeeded { return true }
        guard output.ending == .exited(wrongKeyStatus) else { throw failure(output) }
        return false
    }

    /// cryptsetup(8), "RETURN CODES": no permission (bad passphrase).
    private static let wrongKeyStatus: Int32 = 2
    /// The device exists already, or is busy.
    private static let busyStatus: Int32 = 5

    private static func failure(_ output: ChildProcess.Output) -> LUKSOpenError {
        // Its last lines carry their own punctuation.
        var words = output.lastWords
        while words.hasSuffix(".") { words.removeLast() }
        return .impossible("cryptsetup could not open it (\(output.ending)): \(words)")
    }

    /// Opens the LUKS volume in `range` of a disk or a raw image file.
    /// - Parameters:
    ///   - sectorSize: the disk's logical sector size in bytes.
    ///   - keyFile: all its bytes are the key, including a newline at its end.
    ///   - readOnly: whether writes are refused, also by the loop device below.
    /// - Throws: `LUKSOpenError`.
    package convenience init(
        disk: FilePath, range: ByteRange, sectorSize: Int, keyFile: FilePath, readOnly: Bool
    ) throws(LUKSOpenError) {
        if let obstacle = Self.obstacle() { throw .impossible(obstacle) }
        let loop: LoopDevice
        do { loop = try LoopDevice(over: disk, range: range, readOnly: readOnly, sectorSize: sectorSize) } catch {
            throw .impossible("\(error)")
        }
        let owner = Loop(loop)
        try self.init(owner.device.path, owner, keyFile: keyFile, readOnly: readOnly)
    }

    /// Opens the LUKS volume on a block device, which must exist for as long as this: programs that look at what is
    /// below see that device, and no loop device.
    /// - Parameter mapping: the name for device-mapper; without one, or where another device has it, any.
    /// - Throws: `LUKSOpenError`.
    package convenience init(
        device: FilePath, keyFile: FilePath, readOnly: Bool, mapping: String? = nil
    ) throws(LUKSOpenError) {
        if let obstacle = Self.obstacle() { throw .impossible(obstacle) }
        let isFree = mapping.map { name in
            ConfinedLVM.isName(name) && name != "control" && !MappedDevice.all().contains { $0.name == name }
        }
        try self.init(device, nil, keyFile: keyFile, readOnly: readOnly, mapping: isFree == true ? mapping : nil)
    }

    private init(
        _ volume: FilePath, _ owner: Loop?, keyFile: FilePath, readOnly: Bool, mapping: String? = nil
    ) throws(LUKSOpenError) {
        let node =
            mapping ?? "reforge-\(SystemFacts.processID)-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        // Without its locks, cryptsetup does not repair headers: a damaged header stays unchanged.
        let output = try Self.run(
            ["open", "--type", "luks", "--batch-mode", "--disable-locks", "--key-file=\(keyFile)"]
                + (readOnly ? ["--readonly"] : []) + [volume.string, node])
        guard output.succeeded else {
            // It may have been stopped after its last step. What has that name already is another's.
            if output.ending != .exited(Self.busyStatus) { _ = try? Self.run(["close", node]) }
            throw output.ending == .exited(Self.wrongKeyStatus) ? .wrongKey : Self.failure(output)
        }
        let device: BlockDevice
        do throws(LUKSOpenError) {
            path = try Self.path(of: node)
            do { device = try BlockDevice(opening: path) } catch { throw LUKSOpenError.impossible("\(error)") }
            geometry = try Self.parse(status: try Self.run(["status", "--disable-locks", node]).text)
            guard geometry.byteCount == device.byteCount else {
                throw .impossible("cryptsetup and the kernel disagree about its length")
            }
            let removal = try Self.run(["close", "--deferred", node])
            guard removal.succeeded else {
                throw .impossible("cryptsetup could not remove its node: \(removal.lastWords)")
            }
        } catch {
            _ = try? Self.run(["close", "--deferred", node])
            throw error
        }
        self.node = node
        byteCount = device.byteCount
        logicalSectorSize = device.logicalSectorSize
        fileDescriptor = device.fileDescriptor
        state = Monitor(State(isOpen: true, device: device, loop: owner))
    }

    deinit { close() }

    /// Fills all of `buffer` with decrypted bytes from `offset` on.
    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        guard let device = state.update({ $0.device }) else {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: 0,
                reason: "it was closed")
        }
        try device.read(into: buffer, at: offset)
    }

    /// Writes cached data through the node to the disk, and releases the node.
    /// - Returns: whether it is gone: another program (udev, a probe) may have it open for some seconds.
    @discardableResult
    package func close() -> Bool {
        var parts = state.update { state in
            defer { state = State() }
            return state
        }
        guard parts.isOpen else { return true }
        try? parts.device?.dropCache()
        // The last descriptor: the kernel removes the node now, before the loop device below may be released.
        parts.device = nil
        let isGone = MappedDevice.waitUntilGone(node)
        parts.loop = nil
        return isGone
    }

    private static func path(of node: String) throws(LUKSOpenError) -> FilePath {
        // Without udev there is no link from its name to it.
        guard let device = MappedDevice.all().first(where: { $0.name == node }) else {
            throw .impossible("the kernel does not show the node that cryptsetup created")
        }
        return device.path
    }

    /// From the output of `cryptsetup status`: `  offset:  32768 sectors` of 512 bytes, whatever
    /// the encrypted sector size.
    static func parse(status text: String) throws(LUKSOpenError) -> Geometry {
        func number(_ key: String) throws(LUKSOpenError) -> UInt64 {
            let values = text.split(separator: "\n").compactMap { line -> UInt64? in
                let parts = line.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, String(parts[0]).trimmed == key else { return nil }
                return parts[1].split(separator: " ").first.flatMap { UInt64($0) }
            }
            guard values.count == 1 else { throw .impossible("cryptsetup status shows no \(key)") }
            return values[0]
        }
        let (start, startOverflow) = try number("offset").multipliedReportingOverflow(by: 512)
        let (length, lengthOverflow) = try number("size").multipliedReportingOverflow(by: 512)
        let sectorSize = try number("sector size")
        guard !startOverflow, !lengthOverflow, [512, 1024, 2048, 4096].contains(sectorSize) else {
            throw .impossible("cryptsetup status shows impossible numbers")
        }
        return Geometry(dataStart: start, byteCount: length, sectorSize: Int(sectorSize))
    }

    private static func run(_ arguments: [String]) throws(LUKSOpenError) -> ChildProcess.Output {
        // Deriving a key takes seconds, or minutes on a slow machine where a fast machine has set the cost.
        do { return try ChildProcess.run(["cryptsetup"] + arguments, timeoutSeconds: 600) } catch {
            throw .impossible("\(error)")
        }
    }
}

/// Why a LUKS volume could not be opened.
package enum LUKSOpenError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The key fits none of its key slots.
    case wrongKey
    /// It cannot be opened here with any key; the reason is a sentence.
    case impossible(String)

    package var description: String {
        switch self {
        case .wrongKey: "the key does not open it"
        case .impossible(let why): why
        }
    }
}
