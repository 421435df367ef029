// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import SystemPackage

/// A block device that joins a part of a disk and a scratch file behind it, for a filesystem that is longer than
/// its partition, so that its own tool can shrink it. Needs device-mapper. The device disappears with the object,
/// even if the process dies: it is removed right after its creation, and the kernel defers the removal until the
/// last descriptor is closed.
package final class CompositeDevice {
    /// The node, `/dev/dm-N`.
    package let path: FilePath
    private let name: String
    private let parts: Parts
    /// The descriptor that keeps the device; `nil` once closed.
    private var node: BlockDevice?

    /// Released after the device that is stacked on them.
    private final class Parts {
        let front: LoopDevice
        let rest: LoopDevice
        init(_ front: consuming LoopDevice, _ rest: consuming LoopDevice) {
            self.front = front
            self.rest = rest
        }
    }

    /// Why no composite can be created here, as a sentence part; `nil` if it can.
    package static func obstacle() -> String? {
        if let obstacle = DeviceMapper.obstacle() { return obstacle }
        guard let output = try? ChildProcess.run(["dmsetup", "version"]) else {
            return "`dmsetup` is not installed (Debian package dmsetup)"
        }
        return output.succeeded ? nil : "device-mapper does not answer: \(output.lastWords)"
    }

    /// Joins `front` of a disk and `rest` of a scratch file. Both lengths are multiples of 512.
    package init(
        disk: FilePath, front: ByteRange, scratch: FilePath, rest: ByteRange, sectorSize: Int
    ) throws(SystemCallError) {
        let parts = Parts(
            try LoopDevice(over: disk, range: front, sectorSize: sectorSize),
            try LoopDevice(over: scratch, range: rest, sectorSize: sectorSize))
        self.parts = parts
        name = "reforge-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        // dmsetup(8): logical start, length, target type and its arguments, in units of 512 bytes.
        let table =
            "0 \(front.byteCount / 512) linear \(parts.front.path) 0\n"
            + "\(front.byteCount / 512) \(rest.byteCount / 512) linear \(parts.rest.path) 0\n"
        // There is no udev in the recovery environment, which dmsetup would wait for.
        try Self.run(["create", name, "--noudevrules", "--noudevsync"], input: table)
        do throws(SystemCallError) {
            let minor = try Self.run(["info", "-c", "--noheadings", "-o", "minor", name]).trimmed
            path = FilePath("/dev/dm-\(minor)")
            node = try BlockDevice(opening: path)
            try Self.run(["remove", "--deferred", "--noudevrules", "--noudevsync", name])
        } catch {
            _ = try? Self.run(["remove", "--deferred", "--noudevrules", "--noudevsync", name])
            throw error
        }
    }

    deinit { try? close() }

    /// Removes the device; by then, everything written to it is on the disk and the scratch file.
    package func close() throws(SystemCallError) {
        guard node != nil else { return }
        var failure: SystemCallError?
        // No copy of the reference may remain: the last one keeps the device.
        do { try node?.dropCache() } catch {
            failure = SystemCallError("flush", path.string, Errno(rawValue: error.errorNumber))
        }
        node = nil
        guard MappedDevice.waitUntilGone(name) else {
            throw failure ?? SystemCallError("remove", "\(path): something has it open", .resourceBusy)
        }
        if let failure { throw failure }
    }

    @discardableResult
    private static func run(_ arguments: [String], input: String = "") throws(SystemCallError) -> String {
        let output = try ChildProcess.run(["dmsetup"] + arguments, input: Array(input.utf8), timeoutSeconds: 60)
        guard output.succeeded else {
            throw SystemCallError(
                "run", "dmsetup \(arguments.first ?? "") (\(output.ending): \(output.lastWords))", .invalidArgument)
        }
        return output.text
    }
}
