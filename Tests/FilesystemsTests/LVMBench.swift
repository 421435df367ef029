// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport

/// A volume group on loop devices over files, made by LVM's own programs, which see no other devices of this machine.
///
/// They do not use device-mapper: they write the same bytes, but no volume becomes a device.
final class LVMBench: Sendable {
    let bench: Workbench
    private let disks: [Disk]
    let group = "group"

    private final class Disk: Sendable {
        let device: LoopDevice
        init(_ path: FilePath, byteCount: UInt64) throws {
            device = try LoopDevice(over: path, range: 0..<byteCount)
        }
    }

    /// A part of a logical volume as `lvs` reports it, in extents.
    struct Part {
        var volume: String
        var start: UInt64
        /// Extents of one disk.
        var place: Range<UInt64>
        var disk: Int
    }

    init(_ bench: Workbench, diskByteCounts: [UInt64], create: [String] = [], extend: [String] = []) throws {
        self.bench = bench
        var disks: [Disk] = []
        for (index, byteCount) in diskByteCounts.enumerated() {
            disks.append(try Disk(try bench.sparseFile("disk\(index)", byteCount: byteCount), byteCount: byteCount))
        }
        self.disks = disks
        try Files.makeFolders(bench.path("lvm"))
        let filter = disks.map { "\"a|^\($0.device.path)$|\"" } + ["\"r|.*|\""]
        let text = """
            devices { scan="/dev" use_devicesfile=0 filter=[\(filter.joined(separator: ","))] }
            global { activation=0 use_lvmpolld=0 locking_dir="\(bench.path("lvm"))/lock" }
            activation { udev_sync=0 udev_rules=0 monitoring=0 }
            backup { backup=0 archive=0 }

            """
        try bench.write(Array(text.utf8), to: bench.path("lvm").appending("lvm.conf"))
        for disk in disks { try run(["pvcreate", "-q"] + create + [disk.device.path.string]) }
        try run(["vgcreate", "-q"] + extend + [group] + disks.map { $0.device.path.string })
    }

    func device(_ index: Int = 0) -> String { disks[index].device.path.string }

    @discardableResult func run(_ arguments: [String]) throws -> String {
        let output = try ChildProcess.run(
            arguments,
            environment: ChildProcess.plainEnvironment + [
                "LVM_SYSTEM_DIR=\(bench.path("lvm"))", "LVM_SUPPRESS_FD_WARNINGS=1",
            ], timeoutSeconds: 60)
        guard output.succeeded else {
            throw ToolFailure(description: "\(arguments.joined(separator: " ")): \(output.ending): \(output.lastWords)")
        }
        return output.text
    }

    func create(_ name: String, extents: Int, _ others: [String] = []) throws {
        try run(["lvcreate", "-q", "-an", "-Zn", "-Wn", "-l", "\(extents)", "-n", name] + others + [group])
    }

    /// The places of volumes according to `lvs`.
    func parts() throws -> [Part] {
        let text = try run([
            "lvs", "-a", "--noheadings", "--segments", "-o", "lv_name,seg_start_pe,seg_pe_ranges", group,
        ])
        var parts: [Part] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count >= 3, let start = UInt64(fields[1]) else { continue }
            for field in fields.dropFirst(2) {
                let place = field.split(separator: ":")
                let ends = place.last?.split(separator: "-").compactMap { UInt64($0) } ?? []
                guard let disk = disks.firstIndex(where: { $0.device.path.string == place[0] }), ends.count == 2 else {
                    throw ToolFailure(description: "lvs says \(line)")
                }
                parts.append(
                    Part(volume: String(fields[0]), start: start, place: ends[0]..<ends[1] + 1, disk: disk))
            }
        }
        return parts
    }

    /// The start of extent 0 and the length of an extent, in bytes.
    func extentPlaces(_ index: Int = 0) throws -> (start: UInt64, byteCount: UInt64) {
        let text = try run([
            "pvs", "--noheadings", "--nosuffix", "--units", "b", "-o", "pe_start,vg_extent_size", device(index),
        ])
        let numbers = text.split(whereSeparator: { $0 == " " || $0 == "\n" }).compactMap { UInt64($0) }
        guard numbers.count == 2 else { throw ToolFailure(description: "pvs says \(text)") }
        return (numbers[0], numbers[1])
    }

    /// Writes all data through to the files, and drops the caches: files and devices are cached separately.
    func settle() throws {
        for disk in disks {
            let file = try FileDescriptor.open(disk.device.path, .readWrite)
            guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
            try file.close()
            try Tool.run(["blockdev", "--flushbufs", disk.device.path.string])
        }
    }
}

/// Copies between a volume in a separate file and its parts on a disk.
struct Splicer {
    let disk: FilePath
    let volume: FilePath
    /// The start of a part in the volume, and its place on the disk, in bytes.
    let parts: [(start: UInt64, place: ByteRange)]

    func toDisk() throws { try copy(from: volume, to: disk) { ($0.start, $0.place.lowerBound) } }
    func toVolume() throws { try copy(from: disk, to: volume) { ($0.place.lowerBound, $0.start) } }

    private func copy(
        from source: FilePath, to target: FilePath,
        _ places: ((start: UInt64, place: ByteRange)) -> (from: UInt64, to: UInt64)
    ) throws {
        let input = try BlockDevice(opening: source)
        let output = try FileDescriptor.open(target, .readWrite, options: .create, permissions: .ownerReadWrite)
        defer { try? output.close() }
        for part in parts {
            let (from, to) = places(part)
            let bytes = try input.readBytes(at: from, count: Int(part.place.byteCount))
            _ = try output.writeAll(toAbsoluteOffset: Int64(to), bytes)
        }
    }
}
