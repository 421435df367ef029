// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
public import ImageStore
import LinuxSystem
public import SystemPackage

/// Tries keys on the LUKS volumes of a capture before anything is written: without the right one, a restore that makes one
/// smaller would end in the middle.
public enum KeyTrial {
    /// Key slots end before that: what cryptsetup makes has 2 MiB (LUKS1) or 16 MiB of header.
    private static let mostHeaderByteCount: UInt64 = 256 << 20

    /// The partitions (`nil` for a bare disk) of `plan` whose LUKS volumes none of the keys opens, of those that get another
    /// length.
    /// - Parameter image: read from its first record to the last header.
    /// - Throws: `ImagingError` where the capture cannot be read, or keys cannot be tried here.
    public static func locked(
        _ plan: RestorePlan, in image: any CaptureReader, keyFiles: [FilePath]
    ) throws(ImagingError) -> [Int?] {
        do {
            let numbers = plan.encryptedNumbers
            var waiting = Set(
                image.header.manifest.regions.indices.filter { index in
                    let region = image.header.manifest.regions[index]
                    return region.filesystem?.kind == .luks && numbers.contains(region.partition)
                })
            guard !waiting.isEmpty else { return [] }
            let folder = try Files.makeTemporaryFolder("reforge-luks")
            let path = folder.appending("header")
            defer {
                try? Files.remove(path)
                try? Files.removeFolder(folder)
            }
            var locked: [Int?] = []
            var header: Header?
            func tryKeys(_ region: Int) throws {
                guard let made = header, made.region == region else { return }
                header = nil
                waiting.remove(region)
                let fits = try keyFiles.contains { try OpenedLUKS.key($0, opens: path) }
                if !fits { locked.append(image.header.manifest.regions[region].partition) }
            }
            let reader = try HeaderReader(image)
            while !waiting.isEmpty, let record = try image.nextRecord() {
                if Interruption.isRequested { throw ImagingError.interrupted(Interruption.name) }
                if let region = header?.region, region != record.region { try tryKeys(region) }
                guard waiting.contains(record.region) else { continue }
                let region = image.header.manifest.regions[record.region]
                if header == nil {
                    let contents = region.filesystem.flatMap(EncryptedContents.init)
                    let length = contents?.headerByteCount ?? mostHeaderByteCount
                    header = try Header(record.region, path, region.range.byteCount, min(length, mostHeaderByteCount))
                }
                let start = record.range.lowerBound - region.range.lowerBound
                guard let made = header, start < made.byteCount else {
                    try tryKeys(record.region)
                    continue
                }
                if record.kind == .data { try made.device.writeBytes(try reader.content(record), at: start) }
            }
            if let region = header?.region { try tryKeys(region) }
            return locked
        } catch { throw ImagingError(error) }
    }

    /// A sparse file as long as the volume, with its front.
    private struct Header {
        let region: Int
        let byteCount: UInt64
        let device: BlockDevice

        init(_ region: Int, _ path: FilePath, _ volumeByteCount: UInt64, _ byteCount: UInt64) throws {
            self.region = region
            self.byteCount = byteCount
            let file = try OwnedDescriptor.open(
                path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
            try Files.resize(file.raw, path.string, to: volumeByteCount)
            device = try BlockDevice(opening: path, .exclusiveWrite)
        }
    }

    /// Decodes one record after the other.
    private struct HeaderReader {
        let image: any CaptureReader
        let buffer: ChunkBuffer
        let decoder: ChunkDecoder

        init(_ image: any CaptureReader) throws {
            self.image = image
            buffer = ChunkBuffer(chunkByteCount: image.header.manifest.chunkByteCount)
            decoder = try ChunkDecoder(image.coding)
        }

        func content(_ record: ChunkRecord) throws -> [UInt8] {
            let position = image.position
            try image.readStored(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<record.storedByteCount]))
            return Array(
                try record.content(in: buffer, decoder) { image.damageReporter($0, position, record.range) })
        }
    }
}

extension RestorePlan {
    /// The partitions (`nil` for a bare disk) whose LUKS volumes get another length.
    public var encryptedNumbers: [Int?] {
        encryptedGrowths.map(\.number) + shrinks.filter { $0.filesystem.kind == .luks }.map(\.number)
    }
}
