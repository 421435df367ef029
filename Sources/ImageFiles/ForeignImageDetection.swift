// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import SystemPackage

/// What a file is that somebody calls an image.
///
/// A damaged image of ours must never pass for somebody else's: it would be "restored" as if its bytes were a disk's.
package enum ImageFileKind: Equatable, Sendable {
    /// An image file of ours; also whatever is not a file: a pipe carries nothing else.
    case image
    /// An encrypted image file of ours.
    case encryptedImage
    /// An archive of ours, with its metadata beside it.
    case xzImage
    /// A raw image in an .xz file.
    case foreignXZ
    /// A raw image in a .zst file.
    case foreignZstd
    /// A raw image.
    case foreignRaw
    /// None of these: a sentence part that says why.
    case unknown(why: String)

    /// Looks at a file.
    /// - Throws: `ImageError.system` where it cannot be read.
    package static func detect(_ path: FilePath) throws(ImageError) -> ImageFileKind {
        let status: Stat
        do { status = try Stat(path) } catch {
            // The archive itself may be what is missing.
            throw .system(SystemCallError("open", path.string, error))
        }
        guard status.type == .regular else { return .image }
        let file = try FileBytes(path)
        let head = try file.bytes(at: 0, count: Int(min(file.byteCount, 64)))
        func holds(_ text: String, at offset: Int) -> Bool { head.dropFirst(offset).starts(with: Array(text.utf8)) }
        let magic = (try? head.littleEndian(UInt32.self, at: 0)) ?? 0
        let isSkippable = magic & 0xFFFF_FFF0 == 0x184D_2A50
        let suffixes = (path.lastComponent?.string ?? "").lowercased().split(separator: ".").map(String.init)

        if holds("RFIMGENC", at: 0) || isSkippable && holds("RFIMGENC", at: 8) { return .encryptedImage }
        // One damaged byte in front makes it none of somebody else's.
        if holds("RFIMGHDR", at: 8) || isSkippable { return .image }
        // Whatever its first bytes are by now.
        if Files.exists(XZImageReader.metadataPath(of: path)) { return .xzImage }
        if head.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) { return .foreignXZ }
        if magic == 0xFD2F_B528 { return .foreignZstd }
        guard !suffixes.contains(where: { ["enc", "zst", "xz", "reforge"].contains($0) }) else {
            return .unknown(why: "it does not start like what its name says: it is damaged, or no image")
        }
        guard let suffix = suffixes.last, suffixes.count > 1, ["img", "raw", "iso"].contains(suffix) else {
            return .unknown(
                why: "it starts like none, and a raw image is taken for one only by its name: .img, .raw or .iso")
        }
        if try holdsOurEnd(file) { return .unknown(why: "its start is damaged: its end is that of a Reforge image") }
        guard file.byteCount > 0, file.byteCount % 512 == 0 else {
            return .unknown(why: "a raw image is whole sectors of 512 bytes, and it has \(file.byteCount) bytes")
        }
        return .foreignRaw
    }

    /// Whether a file ends with the footer of an image of ours.
    private static func holdsOurEnd(_ file: FileBytes) throws(ImageError) -> Bool {
        let byteCount = ImageFormat.footerByteCount
        guard file.byteCount >= UInt64(byteCount) else { return false }
        let end = try file.bytes(at: file.byteCount - UInt64(byteCount), count: byteCount)
        return end.starts(with: ImageFormat.footerTag)
    }
}
