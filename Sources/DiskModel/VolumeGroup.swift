// SPDX-License-Identifier: GPL-3.0-or-later

extension FilesystemInfo {
    /// What a change of a physical volume's size has to know of it and its group: where its extents lie. The logical volumes
    /// are the `inner` ones.
    package struct VolumeGroup: Codable, Equatable, Sendable {
        /// The group's name.
        package var name: String
        /// The group's id: 32 characters, without dashes.
        package var id: String
        /// Where extent 0 starts, in bytes from the start of the physical volume.
        package var extentStart: UInt64
        /// The length of an extent in bytes.
        package var extentByteCount: UInt64
        /// How many extents the physical volume has.
        package var extentCount: UInt64
        /// What must stay free behind the extents, in bytes: a second metadata area lies there.
        package var tailByteCount: UInt64
        /// Why the physical volume keeps its size, as a sentence part; `nil` where it can get another.
        package var resizeObstacle: String?

        /// Describes a group on one physical volume.
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

        /// How many extents a physical volume of so many bytes has (LVM2's `lib/format_text/format-text.c`,
        /// `_text_pv_resize`: what lies between the start and the metadata at the end).
        package func extentCount(in byteCount: UInt64) -> UInt64 {
            let (reserved, overflow) = extentStart.addingReportingOverflow(tailByteCount)
            guard !overflow, byteCount > reserved, extentByteCount > 0 else { return 0 }
            // LVM counts them in 32 bits.
            return min((byteCount - reserved) / extentByteCount, UInt64(UInt32.max))
        }

        /// The least length of a physical volume with so many extents, in bytes; `nil` where it is too large to be true.
        func byteCount(ofExtents count: UInt64) -> UInt64? {
            let (extents, tooMany) = count.multipliedReportingOverflow(by: extentByteCount)
            let (end, tooLong) = extents.addingReportingOverflow(extentStart)
            let (whole, tooLarge) = end.addingReportingOverflow(tailByteCount)
            return tooMany || tooLong || tooLarge ? nil : whole
        }
    }
}
