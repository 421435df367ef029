// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskEditing
import DiskModel
import Filesystems
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Repository
import SystemPackage

extension CaptureOperation {
    /// Refuses an image in place of the disk: a swapped command line, or another tool's container, whose bytes are not
    /// a disk.
    /// - Parameter isVirtual: whether it is the disk of a virtual machine, whose contents are captured.
    func refuseImage(_ source: OpenedDisk, isVirtual: Bool) throws {
        guard !job.takesImageAsDisk, let known = try source.knownImage, !isVirtual || known.kind != .foreign else {
            return
        }
        let instead =
            switch known.kind {
            case .image: "reforge copy copies an image"
            case .repositoryFile: "reforge copy copies a snapshot"
            case .foreign:
                "its own tool makes a raw disk of it (qemu-img convert -O raw), and a virtual machine's disk image is "
                    + "captured as its disk under a name that says what it is (NAME.qcow2)"
            }
        throw JobFailure(
            .refused,
            "\(job.disk) is \(known.name), not a disk: are DISK and IMAGE swapped? \(instead); --as-disk captures it "
                + "byte for byte")
    }

    func refuseDanger(_ source: OpenedDisk, _ destination: ImageDestination) throws {
        guard [512, 4096].contains(source.device.logicalSectorSize) else {
            throw JobFailure(
                .refused,
                "\(job.disk) has sectors of \(source.device.logicalSectorSize) bytes; 512 and 4096 are supported")
        }
        guard let path = destination.path, source.holds(path) else { return }
        throw JobFailure(
            .refused, "\(path) lies on \(job.disk), the disk that is to be captured: write to another disk")
    }

    /// Warns if a clone and its template, which share their names, are captured as the same host and disk. Their
    /// paths alternate in the snapshots; a path that is new each time (a file named by date) does not recur.
    func noteOtherPlace(_ repository: Repository, _ host: String, _ disk: String, _ source: OpenedDisk) {
        guard source.identity.transport == "file" else { return }
        let paths = repository.snapshotInfos().whole.filter { $0.host == host && $0.disk == disk }
            .sorted { $0.startedSeconds ?? 0 < $1.startedSeconds ?? 0 }.suffix(16)
            .compactMap { try? repository.snapshot($0.id).manifest.disk.path }
        let own = source.identity.path
        guard let before = paths.last, before != own, paths.contains(own) else { return }
        events.warn(
            "names-in-turn",
            "snapshots of \(host)/\(disk) alternate between \(before) and \(own). If these are two machines (clones have the "
                + "names of their template), distinguish them with --host: otherwise their snapshots count as one history"
        )
    }

    /// The remains of an unfinished capture.
    static func sentences(_ destination: ImageDestination) -> String {
        let left =
            switch destination {
            case .stream: "The stream is not an image"
            case .file(let path): "Nothing was left at \(path)"
            case .repository: "No snapshot was made; the same command continues from the stored data"
            }
        return "\(left); the disk was only read."
    }

    /// The headers of swap areas that hold a hibernation image, as plain swap.
    static func swapHeaders(_ survey: DiskSurvey, _ disk: any BlockReader) throws -> [UInt64: [UInt8]] {
        var headers: [UInt64: [UInt8]] = [:]
        for volume in survey.volumes where volume.filesystem.mapSource == .headerOnly {
            guard let header = volume.allocation.ranges.first, header.lowerBound == 0, header.byteCount <= 64 << 10
            else { continue }
            let bytes = try disk.readBytes(at: volume.range.lowerBound, count: Int(header.byteCount))
            let plain = SwapArea.plainHeader(bytes)
            if plain != bytes { headers[volume.range.lowerBound] = plain }
        }
        return headers
    }

    /// The plan of a capture, for a person.
    static func summary(_ manifest: Manifest) -> [String] {
        let rows = manifest.regions.filter { $0.kind != .gap }.map { region in
            [
                region.partition.map(String.init) ?? "-", region.filesystem?.kindName ?? "unknown",
                ByteText.rounded(region.range.byteCount), ByteText.rounded(region.usedByteCount),
                manifest.allSectors ? "every sector" : region.filesystem.map(TextTable.known) ?? "",
            ]
        }
        return TextTable.lines(["#", "HOLDS", "SIZE", "CAPTURED", "HOW KNOWN"], rows)
    }
}
