// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskModel
import Filesystems
import ImageModel
import LinuxSystem
import SystemPackage

/// Tries keys on the LUKS volumes of a capture before anything is written: without the right key, or on a machine that
/// cannot open such a volume, a restore that shrinks it would end in the middle.
package enum KeyTrial {
    /// The upper bound on header and key slots (LUKS2 has at most 4 MiB and 128 MiB), and on the file that holds them.
    private static let limit: UInt64 = 256 << 20

    /// The partitions (`nil` for a bare disk) of `plan` with resized LUKS volumes that no key opens.
    /// - Parameter image: read from its first record to the last LUKS header.
    /// - Throws: `ImagingError` if the capture cannot be read, or if a volume with a matching key cannot be opened
    ///   here.
    package static func locked(
        _ plan: RestorePlan, in image: any ImageReader, keyFiles: [FilePath],
        cancellation: Cancellation = Cancellation()
    ) throws(ImagingError) -> [Int?] {
        do {
            let (regions, numbers) = (image.header.manifest.regions, plan.encryptedNumbers)
            var waiting = Set(
                regions.indices.filter {
                    regions[$0].filesystem?.kind == .luks && numbers.contains(regions[$0].partition)
                })
            guard !waiting.isEmpty else { return [] }
            var locked: [Int?] = []
            let reader = try RecordReader(image)
            var header: Header?
            func judge(_ made: Header) throws {
                header = nil
                waiting.remove(made.region)
                let partition = regions[made.region].partition
                do {
                    let sectorSize = plan.geometry.logicalSectorSize
                    if !(try made.isOpened(by: keyFiles, sectorSize: sectorSize)) { locked.append(partition) }
                } catch {
                    throw ImagingError.refused(
                        "the LUKS volume of \(partition.map { "partition \($0)" } ?? "the disk") cannot be opened here: \(error)"
                    )
                }
            }
            while !waiting.isEmpty, let record = try image.nextRecord() {
                try cancellation.check()
                if let made = header, made.region != record.region { try judge(made) }
                guard waiting.contains(record.region) else { continue }
                let region = regions[record.region].range
                let made =
                    try header
                    ?? Header(
                        record.region, min(region.byteCount, limit), isEncrypted: image.coding.isEncrypted)
                header = made
                if record.kind == .data {
                    try made.write(try reader.content(record), at: record.range.lowerBound - region.lowerBound)
                }
                if try made.isWhole(upTo: record.range.upperBound - region.lowerBound) { try judge(made) }
            }
            if let made = header { try judge(made) }
            return locked
        } catch { throw ImagingError(error) }
    }

    /// The front of a volume, in a sparse file that is removed with the object.
    private final class Header {
        let region: Int
        private let folder: FilePath
        private let path: FilePath
        private let device: BlockDevice

        init(_ region: Int, _ byteCount: UInt64, isEncrypted: Bool) throws {
            self.region = region
            // Preferably in memory: the contents of an encrypted image must not reach a disk unasked.
            guard let parent = Files.memoryFolder ?? (isEncrypted ? nil : Files.temporaryFolder) else {
                throw ImagingError.refused(
                    "the image is encrypted, and this machine has no folder in memory (tmpfs) in which to try the key of its LUKS volume"
                )
            }
            folder = try Files.makeTemporaryFolder("reforge-luks", in: parent)
            path = folder.appending("header")
            do {
                let file = try OwnedDescriptor.open(
                    path, .readWrite, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
                try Files.resize(file.raw, path.string, to: byteCount)
                device = try BlockDevice(opening: path, .exclusiveWrite)
            } catch {
                try? Files.remove(path)
                try? Files.removeFolder(folder)
                throw error
            }
        }

        deinit {
            try? Files.remove(path)
            try? Files.removeFolder(folder)
        }

        func write(_ bytes: [UInt8], at offset: UInt64) throws {
            let room = device.byteCount - min(offset, device.byteCount)
            try device.writeBytes(Array(bytes.prefix(Int(clamping: room))), at: offset)
        }

        /// Whether the header is complete up to `offset`: the key slots lie before the encrypted sectors.
        func isWhole(upTo offset: UInt64) throws -> Bool {
            if offset >= device.byteCount { return true }
            return try LUKSHeader.dataStart(of: device).map { $0 <= offset } ?? false
        }

        /// Whether one of the keys fits. If device-mapper works, the volume is also opened for a moment: the kernel may
        /// lack its cipher.
        func isOpened(by keyFiles: [FilePath], sectorSize: Int) throws -> Bool {
            try device.flush()
            let key = try keyFiles.first { try OpenedLUKS.key($0, opens: path) }
            guard let key, OpenedLUKS.obstacle() == nil, let start = try LUKSHeader.dataStart(of: device) else {
                return key != nil
            }
            let end = min(start + 1 << 20, device.byteCount).roundedDown(toMultipleOf: 4096)
            guard end > start else { return true }
            try OpenedLUKS(
                disk: path, range: 0..<end, sectorSize: sectorSize, keyFile: key, readOnly: true
            ).close()
            return true
        }
    }

    /// Decodes records one after the other.
    private struct RecordReader {
        let image: any ImageReader
        let buffer: ChunkBuffer
        let decoder: ChunkDecoder

        init(_ image: any ImageReader) throws {
            self.image = image
            buffer = try ChunkBuffer(chunkByteCount: image.header.manifest.chunkByteCount)
            decoder = try ChunkDecoder(image.coding)
        }

        func content(_ record: ChunkRecord) throws -> [UInt8] {
            let position = image.position
            let fetch = image.storedFetch()
            if fetch == nil {
                try image.readStored(
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer.stored[..<record.storedByteCount]))
            }
            return Array(
                try record.content(
                    in: buffer, decoder, fetch: fetch, otherCopies: image.otherCopies(), salvage: image.salvage
                ) {
                    image.damageReporter($0, position, record.range)
                })
        }
    }
}
