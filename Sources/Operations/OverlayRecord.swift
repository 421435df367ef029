// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import Codecs
import DiskImages
import DiskModel
import Emulator
import ImageModel
import JobModel
import LinuxSystem
import SystemPackage

/// What belongs to a kept overlay: the image that it lies over. Stored beside it as `OVERLAY.reforge.json`.
package struct OverlayRecord: Codable, Equatable, Sendable {
    /// The version of the file's JSON.
    var schema = 1
    /// The image's address, with the id of a snapshot.
    var base: String
    /// The id of the image, if it has one.
    var imageID: String?
    /// The capture's identity: of a disk in a file, that of its contents' size, start and time of change.
    var imageUUID: String
    var byteCount: UInt64

    private static let longest = 1 << 16

    init(_ source: ServedSource) throws {
        guard let text = source.exactText else {
            throw JobFailure(.usage, "--keep needs an image that can be opened again, not \(source.text)")
        }
        guard (try? Stat(FilePath(text)))?.type != .blockSpecial else {
            throw JobFailure(
                .usage,
                "--keep needs an image, not the disk \(text), which nothing holds to its contents: capture it first")
        }
        base = try Self.absolute(text)
        imageID = source.imageID?.description
        imageUUID = source.header.manifest.imageUUID.description
        byteCount = source.disk.byteCount
    }

    /// The address from any folder.
    private static func absolute(_ text: String) throws -> String {
        func whole(_ path: String) -> String { Files.realPath(FilePath(path))?.string ?? path }
        switch try ImageAddress.parse(text, .thisMachine) {
        case .path(let path): return whole(path)
        case .snapshot(let address) where Files.exists(FilePath(address.repository)):
            let rest = text.dropFirst(text.lastIndex(of: "@").map { text.distance(from: text.startIndex, to: $0) } ?? 0)
            return whole(address.repository) + rest
        default: return text
        }
    }

    package static func path(of overlay: FilePath) -> FilePath { FilePath(overlay.string + ".reforge.json") }

    /// The record of an overlay; `nil` for a file that is none.
    package static func find(_ overlay: FilePath) throws -> OverlayRecord? {
        let path = path(of: overlay)
        guard Files.exists(overlay), Files.exists(path) else { return nil }
        let head = try Files.read(overlay, limit: 80)
        // QFI\xFB: docs/interop/qcow2.txt.
        guard head.starts(with: [0x51, 0x46, 0x49, 0xFB]) else { return nil }
        // Incompatible feature 2, from version 3 on: QEMU would open the file that the overlay names.
        if head.count == 80, head[7] >= 3, head[79] & 4 != 0 {
            throw JobFailure(
                .refused,
                "\(overlay) keeps its data in another file that it names, which no overlay of `reforge vm` does: its file "
                    + "was replaced")
        }
        let record: OverlayRecord
        do { record = try JSONText.decode(OverlayRecord.self, try Files.read(path, limit: longest)) } catch {
            throw JobFailure(.badImage, "\(path) cannot be understood (\(error)): without it, \(overlay) has no base")
        }
        guard record.schema == 1 else {
            throw JobFailure(.badImage, "\(path) is of a newer Reforge (schema \(record.schema))")
        }
        return record
    }

    /// The refusal of an overlay that another machine writes to, or that is captured.
    static func inUse(_ overlay: String) -> String {
        "\(overlay) is in use by another virtual machine or a capture: switch that machine off first, and try again"
    }

    /// What a new overlay depends on. Nothing holds a snapshot for it: the overlay may be on another machine than the
    /// repository, and may be deleted at any time.
    func need(of overlay: FilePath) -> String {
        var isSnapshot = false
        if case .snapshot? = try? ImageAddress.parse(base, .thisMachine) { isSnapshot = true }
        return "\(overlay) holds only what is written over \(base), and is lost with it"
            + (isSnapshot
                ? ": forget and prune do not know of the overlay. Capture it before they remove that snapshot" : "")
    }

    func write(beside overlay: FilePath) throws {
        try Files.write(
            try JSONText.encode(self, pretty: true) + [0x0A], to: Self.path(of: overlay), permissions: .ownerReadWrite)
    }

    /// Opens the base, and refuses one that is not the recorded one: its bytes would mix with those of another disk.
    func openBase(of overlay: FilePath, _ keys: KeyRing) throws -> ServedSource {
        try KeptOverlay.check(overlay, cancellation: keys.cancellation)
        let source: ServedSource
        do { source = try ServedSource.open(base, keys) } catch {
            throw JobFailure(error, cancellation: keys.cancellation).followed(
                by: "\(overlay) holds only what was written over \(base), and cannot be used without it.")
        }
        guard source.imageID?.description == imageID, source.header.manifest.imageUUID.description == imageUUID,
            source.disk.byteCount == byteCount
        else {
            throw JobFailure(
                .refused,
                "\(base) is not the image that \(overlay) was made over (\(imageID ?? imageUUID)): it was changed or "
                    + "replaced. Put the old one back, or start over with `reforge vm`")
        }
        return source
    }
}
