// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import ImageModel

/// Files that do not end in the footer of an image: cut off, or with appended bytes.
enum StrayBytes {
    /// The length of the search for the footer before the end of the file.
    private static let searchedByteCount: UInt64 = 1 << 20

    /// The error for a file that does not end in a footer.
    /// - Parameters:
    ///   - frameHead: the first bytes of a footer's frame.
    ///   - frameByteCount: the length of that frame.
    ///   - bytes: reads bytes of the file: offset and count.
    ///   - footer: the footer whose frame starts at an offset; `nil` if there is none.
    static func error(
        name: String, byteCount: UInt64, frameHead: [UInt8], frameByteCount: Int,
        bytes: (UInt64, Int) throws(ImageError) -> [UInt8], footer: (UInt64) throws(ImageError) -> ImageFooter?
    ) throws(ImageError) -> ImageError {
        let count = min(byteCount, searchedByteCount + UInt64(frameByteCount))
        let start = byteCount - count
        let tail = try bytes(start, Int(count))
        var place = tail.count - frameByteCount
        while place >= 0 {
            defer { place -= 1 }
            guard tail[place] == frameHead[0], tail[place...].starts(with: frameHead) else { continue }
            let end = start + UInt64(place + frameByteCount)
            guard let footer = try footer(start + UInt64(place)), footer.fileByteCount == end else { continue }
            return following(name: name, byteCount: byteCount, end: end)
        }
        return .truncated(name: name, at: byteCount)
    }

    /// The error for a file that should end at `end`.
    static func following(name: String, byteCount: UInt64, end: UInt64) -> ImageError {
        .damaged(
            name: name,
            what:
                "the image ends there, and \(ByteText.exact(byteCount - end)) follow that something appended; `truncate -s \(end)` "
                + "on the file cuts them off", fileOffset: end, disk: nil, partition: nil)
    }
}
