// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import LinuxSystem
import SystemPackage

/// A raw image with a block map beside it: blocks that the map does not list were found to be zeros, and the others have
/// been compared with its checksums.
final class BMapDisk: DiskFile {
    private let disk: any DiskFile
    private let map: BMap
    private let mapFile: FileBytes

    /// The image as its block map describes it; the image itself if there is no map.
    static func around(_ disk: any DiskFile, _ request: DiskRequest) throws(ImageError) -> any DiskFile {
        guard let path = place(beside: request.path) else { return disk }
        let mapFile = try FileBytes(path)
        guard mapFile.byteCount <= UInt64(BMap.limit) else { throw damage(mapFile, "it is longer than any block map") }
        let map: BMap
        let text = try mapFile.bytes(at: 0, count: Int(mapFile.byteCount))
        do { map = try BMap(parsing: text) } catch {
            throw damage(mapFile, "\(error). To use the image without its block map, rename that")
        }
        guard map.imageByteCount == disk.byteCount else {
            throw damage(
                mapFile,
                "it describes an image of \(map.imageByteCount) bytes, and \(disk.name) has \(disk.byteCount). To use "
                    + "the image without its block map, rename that")
        }
        let described = BMapDisk(disk, map, mapFile)
        try described.compare(request)
        return described
    }

    private init(_ disk: any DiskFile, _ map: BMap, _ mapFile: FileBytes) {
        (self.disk, self.map, self.mapFile) = (disk, map, mapFile)
    }

    private static func damage(_ file: FileBytes, _ what: String) -> ImageError {
        .damaged(name: file.name, what: what, fileOffset: 0, disk: nil, partition: nil)
    }

    /// `disk.img.xz.bmap`, `disk.img.bmap` or `disk.bmap`, as bmaptool looks for it.
    static func place(beside path: FilePath) -> FilePath? {
        guard var name = path.lastComponent?.string else { return nil }
        let folder = path.removingLastComponent()
        for _ in 0..<4 {
            let candidate = folder.appending("\(name).bmap")
            if let status = try? Files.status(candidate), status.isFile { return candidate }
            guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return nil }
            name = String(name[..<dot])
        }
        return nil
    }

    /// Compares each range with its checksum, and all others with zeros: a map is only as good as the image that it
    /// belongs to, and a disk that was used since has data where its map has none. Front to back, for streams.
    private func compare(_ request: DiskRequest) throws(ImageError) {
        request.log("comparing \(disk.name) with its block map \(mapFile.name)")
        var position: UInt64 = 0
        for range in map.ranges {
            try expectZeros(position..<range.bytes.lowerBound, request)
            position = range.bytes.upperBound
            guard let wanted = range.checksum else { continue }
            var hash = ContentHash.Running()
            try read(range.bytes, request) { hash.update($0) }
            guard hash.finish() == wanted else {
                throw damage(range.bytes, "its contents differ from the checksum in \(mapFile.name)")
            }
        }
        try expectZeros(position..<map.imageByteCount, request)
    }

    private func expectZeros(_ range: ByteRange, _ request: DiskRequest) throws(ImageError) {
        var position = range.lowerBound
        while position < range.upperBound {
            // Large images are mostly holes, which need no reading.
            let hole = disk.descriptor.flatMap {
                Files.hole(in: FileDescriptor(rawValue: $0), at: position, byteCount: disk.byteCount)
            }
            let end = min(range.upperBound, hole?.end ?? range.upperBound)
            if hole?.isHole != true {
                var isZero = true
                try read(position..<end, request) { bytes in
                    let isPieceZero = unsafe bytes.withUnsafeBytes { unsafe ZeroTest.isZero($0) }
                    isZero = isZero && isPieceZero
                }
                guard isZero else {
                    throw damage(
                        position..<end,
                        "it has data where \(mapFile.name) has none, so that it was changed since: rename the map, to use "
                            + "the image without it")
                }
            }
            position = end
        }
    }

    private func read(
        _ range: ByteRange, _ request: DiskRequest, _ body: ([UInt8]) -> Void
    ) throws(ImageError) {
        var position = range.lowerBound
        while position < range.upperBound {
            guard !request.cancellation.isRequested else {
                throw .system(SystemCallError("read", disk.name, .interrupted))
            }
            let count = Int(min(1 << 20, range.upperBound - position))
            do { body(try disk.readBytes(at: position, count: count)) } catch {
                throw disk.failure
                    ?? .system(SystemCallError("read", disk.name, Errno(rawValue: error.errorNumber)))
            }
            position += UInt64(count)
        }
    }

    private func damage(_ range: ByteRange, _ what: String) -> ImageError {
        .damaged(name: disk.name, what: what, fileOffset: range.lowerBound, disk: range, partition: nil)
    }

    var byteCount: UInt64 { disk.byteCount }
    var name: String { disk.name }
    var isRandomAccess: Bool { disk.isRandomAccess }
    var hasUncheckedParts: Bool { map.ranges.contains { $0.checksum == nil } && disk.hasUncheckedParts }
    var descriptor: Int32? { disk.descriptor }
    var failure: ImageError? { disk.failure }
    var statedSectorSize: Int? { disk.statedSectorSize }
    var file: FileBytes { disk.file }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let range = try checkedRange(at: offset, count: UInt64(buffer.count))
        unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
        var index = firstRange(endingBehind: offset)
        while index < map.ranges.count, map.ranges[index].bytes.lowerBound < range.upperBound {
            let part = map.ranges[index].bytes.clamped(to: range)
            let start = Int(part.lowerBound - offset)
            unsafe try disk.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + Int(part.byteCount)]),
                at: part.lowerBound)
            index += 1
        }
    }

    private func firstRange(endingBehind offset: UInt64) -> Int {
        var (low, high) = (0, map.ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if map.ranges[middle].bytes.upperBound <= offset { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func confirmEnd() throws(ImageError) {
        try disk.confirmEnd()
        try mapFile.confirmUnchanged()
    }
}
