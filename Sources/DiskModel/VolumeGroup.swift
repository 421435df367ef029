// SPDX-License-Identifier: GPL-3.0-or-later

extension FilesystemInfo {
    /// The data needed to resize a physical volume: the layout of its extents. The logical
    /// volumes are the `inner` ones.
    package struct VolumeGroup: Codable, Equatable, Sendable {
        /// The group's name.
        package var name: String
        /// The group's id: 32 characters, without dashes.
        package var id: String
        /// The start of extent 0, in bytes from the start of the physical volume.
        package var extentStart: UInt64
        /// The length of an extent in bytes.
        package var extentByteCount: UInt64
        /// The number of extents of the physical volume.
        package var extentCount: UInt64
        /// The bytes that must stay free behind the extents: a second metadata area is there.
        package var tailByteCount: UInt64
        /// Why the physical volume keeps its size, as a sentence part; `nil` if it can be resized.
        package var resizeObstacle: String?

        package init(
            name: String, id: String, extentStart: UInt64, extentByteCount: UInt64, extentCount: UInt64,
            tailByteCount: UInt64 = 0, resizeObstacle: String? = nil
        ) {
            self.name = name
            self.id = id
            self.extentStart = extentStart
            self.extentByteCount = extentByteCount
            self.extentCount = extentCount
            self.tailByteCount = tailByteCount
            self.resizeObstacle = resizeObstacle
        }

        /// The number of extents of a physical volume of that many bytes (LVM2's `lib/format_text/format-text.c`,
        /// `_text_pv_resize`: the space between the start and the metadata at the end).
        package func extentCount(in byteCount: UInt64) -> UInt64 {
            let (reserved, overflow) = extentStart.addingReportingOverflow(tailByteCount)
            guard !overflow, byteCount > reserved, extentByteCount > 0 else { return 0 }
            // LVM counts them in 32 bits.
            return min((byteCount - reserved) / extentByteCount, UInt64(UInt32.max))
        }

        /// The least length of a physical volume with that many extents, in bytes; `nil` on overflow.
        func byteCount(ofExtents count: UInt64) -> UInt64? {
            let (extents, tooMany) = count.multipliedReportingOverflow(by: extentByteCount)
            let (end, tooLong) = extents.addingReportingOverflow(extentStart)
            let (whole, tooLarge) = end.addingReportingOverflow(tailByteCount)
            return tooMany || tooLong || tooLarge ? nil : whole
        }
    }
}
