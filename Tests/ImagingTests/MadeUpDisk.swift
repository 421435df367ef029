// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskEditing
import DiskModel
import Filesystems
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage
import TestSupport

@testable import Imaging

/// A small disk with a table made by sfdisk, random contents, and random allocation maps.
struct MadeUpDisk {
    let bytes: [UInt8]
    var header: ImageHeader
    let chunkByteCount = 64 << 10

    static let byteCount = 12 << 20
    static let mebibyte: UInt64 = 1 << 20

    static let gpt = """
        label: gpt
        start=2048, size=6144, type=L, name="one"
        start=8192, size=4096, type=S, name="two"

        """
    /// One primary and two logical partitions.
    static let mbr = """
        label: dos
        start=2048, size=4096, type=83, bootable
        start=6144, size=14336, type=5
        start=8192, size=4096, type=83
        start=14336, size=4096, type=82

        """

    init(seed: UInt64, allUsed: Bool = false, table script: String = gpt) throws {
        var random = SeededGenerator(seed: seed)
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
        try Files.resize(file.raw, path.string, to: UInt64(Self.byteCount))
        let output = try ChildProcess.run(["sfdisk", "-q", path.string], input: Array(script.utf8))
        guard output.succeeded else { throw MadeUpError(text: output.lastWords) }
        let device = try BlockDevice(opening: path)
        let table = try PartitionTableReader.read(device)
        guard !table.partitions.isEmpty else { throw MadeUpError(text: "no table") }
        var bytes = try device.readBytes(at: 0, count: Self.byteCount)
        var volumes: [VolumeSurvey] = []
        for partition in table.partitions where partition.isVolume {
            var map = AllocationMap(byteCount: partition.range.byteCount)
            for _ in 0..<12 {
                let start = UInt64.random(in: 0..<partition.range.byteCount / 512, using: &random) * 512
                map.insert(start..<start + UInt64.random(in: 1...400, using: &random) * 512)
            }
            if allUsed { map = .whole(byteCount: partition.range.byteCount) }
            for word in partition.range.lowerBound / 8..<partition.range.upperBound / 8 where word / 25_000 % 3 != 0 {
                // A third of the contents is zero, in use or not.
                bytes.setLittleEndian(random.next(), at: Int(word) * 8)
            }
            volumes.append(
                VolumeSurvey(
                    range: partition.range, partition: partition,
                    filesystem: FilesystemInfo(kind: .other, kindName: "made up", mapSource: .allocationStructures),
                    allocation: map))
        }
        // Boot code, and data between the table and the first partition.
        if table.kind == .gpt { bytes[0] = 0xEB }
        bytes[700_000] = 0x42
        try self.init(bytes, table, volumes)
    }

    /// A disk of these bytes with these volumes.
    init(_ bytes: [UInt8], _ table: PartitionTable, _ volumes: [VolumeSurvey]) throws {
        self.bytes = bytes
        let survey = DiskSurvey(
            identity: DiskIdentity(path: "made-up"), geometry: DiskGeometry(byteCount: UInt64(bytes.count)),
            table: table, volumes: volumes.sorted { $0.range.lowerBound < $1.range.lowerBound })
        header =
            CapturePlanner.plan(
                survey, tableBytes: try CapturedTable(reading: MemoryDisk(bytes), table: table),
                options: CaptureOptions(chunkByteCount: 64 << 10),
                machine: MachineFacts(architecture: "x86_64", firmware: "bios"),
                mounted: [], toolVersion: "test", started: "2026-01-01T00:00:00Z", localOffsetSeconds: 0
            ).header
    }

    func capture(to path: FilePath, source: MemoryDisk? = nil, workers: Int = 2) throws -> CaptureExecutor.Outcome {
        let output = try ImageOutput(path, overwrite: true)
        let writer = try ImageFileWriter(to: output.descriptor, name: output.name, header: header)
        let executor = CaptureExecutor(
            source: source ?? MemoryDisk(bytes), plan: CapturePlan(header: header, patches: [:]), progress: Progress(),
            workers: workers)
        let outcome = try executor.run(writer)
        try output.commit()
        return outcome
    }

    func plan(targetByteCount: Int, policy: LayoutPolicy = .keep) throws -> RestorePlan {
        try RestorePlanner.plan(
            header, onto: DiskIdentity(path: "target"), geometry: DiskGeometry(byteCount: UInt64(targetByteCount)),
            request: LayoutRequest(policy: policy))
    }

    /// The expected bytes of a target after a restore of `plan`; `nil` for bytes that the plan does not determine.
    func expected(_ plan: RestorePlan, targetByteCount: Int) -> [UInt8?] {
        var result = [UInt8?](repeating: nil, count: targetByteCount)
        for (index, region) in header.manifest.regions.enumerated() {
            guard region.kind == .partition, case .disk(let target) = plan.destinations[index] else { continue }
            for range in header.maps[index].ranges {
                for offset in range { result[Int(target + offset)] = bytes[Int(region.range.lowerBound + offset)] }
            }
        }
        return result
    }
}

struct MadeUpError: Error { var text: String }

/// Restores an image file onto a disk in memory.
func restore(
    _ image: FilePath, onto target: MemoryDisk, plan: RestorePlan, options: RestoreExecutor.Options = .init()
) throws -> (RestoreExecutor, RestoreExecutor.Outcome) {
    let file = try OwnedDescriptor.open(image, .readOnly)
    let executor = RestoreExecutor(plan, target: target, targetPath: nil, options: options, progress: Progress())
    return (executor, try executor.run(try ImageStreamReader(file.raw, name: image.string)))
}
