// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// Linux swap, version 1 (kernel, `include/linux/swap.h`, union swap_header).
///
/// Only the header is worth keeping. A hibernation image in the area is not: its memory belongs to the machine and the
/// moment of its creation. The kernel marks it with another signature instead of `SWAPSPACE2`, so the first page must
/// be captured through `plainHeader(_:)`, or the restored system would try to resume from missing pages.
package enum SwapArea {
    /// The area has the page size of the machine that made it: the signature is at the end of the first page.
    static let pageSizes = [4096, 8192, 16384, 32768, 65536]
    private static let plainSignature = Array("SWAPSPACE2".utf8)
    /// The signatures of suspend-to-disk at that position: of the kernel (`kernel/power/swap.c`), of uswsusp, and of
    /// the kernel on s390 and arm.
    private static let suspendSignatures = ["S1SUSPEND\0", "S2SUSPEND\0", "ULSUSPEND\0", "LINHIB0001"].map {
        Array($0.utf8)
    }

    /// The feature of an area with a hibernation image.
    private static let hibernated = "hibernated"

    /// Whether a volume, or one inside of it, is swap with the image of a hibernated system.
    ///
    /// Nothing of that system may be changed: when it resumes, it writes what it knew of its filesystems.
    package static func isHibernated(_ volume: FilesystemInfo) -> Bool {
        volume.kind == .swap && volume.features.contains(hibernated)
            || (volume.inner ?? []).contains { isHibernated($0.filesystem) }
    }

    static let format = FilesystemFormat(kindNames: ["swap", "swsuspend"], survey: survey)

    /// The first page with a suspend signature replaced by the plain one; any other page unchanged.
    /// - Parameter page: the whole first page, with the survey's `blockSize` bytes.
    package static func plainHeader(_ page: [UInt8]) -> [UInt8] {
        guard page.count >= 10, suspendSignatures.contains(Array(page.suffix(10))) else { return page }
        return page.dropLast(10) + plainSignature
    }

    static func survey(_ volume: any BlockReader) throws(BlockIOError) -> VolumeContents? {
        for pageSize in pageSizes where UInt64(pageSize) <= volume.byteCount {
            let signature = try volume.readBytes(at: UInt64(pageSize - 10), count: 10)
            guard signature == plainSignature || suspendSignatures.contains(signature) else { continue }
            let fields = try volume.readBytes(at: 1024, count: 44)
            return try? contents(fields, pageSize, isSuspended: signature != plainSignature, volume.byteCount)
        }
        return nil
    }

    /// `fields` start at byte 1024, after the boot bits.
    private static func contents(
        _ fields: [UInt8], _ pageSize: Int, isSuspended: Bool, _ volumeByteCount: UInt64
    ) throws(ParsingError) -> VolumeContents? {
        // version; another byte order or version is not supported.
        guard try fields.littleEndian(UInt32.self, at: 0) == 1 else { return nil }
        let lastPage = try fields.littleEndian(UInt32.self, at: 4)  // last_page
        let byteCount = (UInt64(lastPage) + 1) * UInt64(pageSize)
        let label = try fields.text(at: 28, count: 16)  // sws_volume
        let uuid = ExtFilesystem.uuidText(try fields.bytes(at: 12, count: 16))  // sws_uuid
        var info = FilesystemInfo(
            kind: .swap, kindName: "swap", uuid: uuid,
            label: label.isEmpty ? nil : label, byteCount: byteCount, blockSize: pageSize, mapSource: .headerOnly)
        // nr_badpages, the length of badpages
        if try fields.littleEndian(UInt32.self, at: 8) != 0 { info.features.append("badpages") }
        if isSuspended {
            info.features.append(hibernated)
            info.remarks.append("holds a hibernation image; it is put back as plain swap")
        }
        guard byteCount <= volumeByteCount else {
            return (
                info.takenWhole(because: "it is larger than its partition"), .whole(byteCount: volumeByteCount)
            )
        }
        var map = AllocationMap(byteCount: volumeByteCount)
        map.insert(0..<UInt64(pageSize))
        // Space behind the area must not be dropped.
        map.insert(byteCount..<volumeByteCount)
        return (info, map)
    }
}
