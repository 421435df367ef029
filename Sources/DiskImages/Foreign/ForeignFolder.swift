// SPDX-License-Identifier: GPL-3.0-or-later
import ImageModel
import LinuxSystem
import SystemPackage

/// The files of a folder made by another tool.
///
/// Names come from hostile texts, so only the names that the folder itself lists count, and only regular files: a name
/// with a slash, or a symbolic link, never leads out of it.
final class ForeignFolder {
    let path: FilePath
    /// All names, sorted.
    let names: [String]
    private let known: Set<String>
    /// The files used so far, in order.
    private(set) var used: [FilePath] = []

    /// The longest text: a backup of LVM's metadata, or the front of a disk in FOG.
    static let limit = 8 << 20

    init(_ path: FilePath) throws(ImageError) {
        self.path = path
        do { names = try Files.allNames(in: path) } catch { throw .system(error) }
        known = Set(names)
    }

    func has(_ name: String) -> Bool { known.contains(name) }

    /// The path of a file of the folder, recorded as used; `nil` if there is none of that name.
    func file(_ name: String) throws(ImageError) -> FilePath? {
        guard known.contains(name) else { return nil }
        let file = path.appending(name)
        let status: Stat
        do { status = try Stat(file, followTargetSymlink: false) } catch {
            throw .system(SystemCallError("look at", file.string, error))
        }
        guard status.type == .regular else {
            throw .refused(
                "\(file) is not a regular file. Files of a foreign folder are never read through links: put the file "
                    + "itself into the folder")
        }
        if !used.contains(file) { used.append(file) }
        return file
    }

    /// The bytes of a small file; `nil` if there is none of that name.
    func bytes(_ name: String) throws(ImageError) -> [UInt8]? {
        guard let file = try file(name) else { return nil }
        do throws(SystemCallError) {
            let descriptor = try OwnedDescriptor.open(file, .readOnly, options: [.noFollow])
            let bytes = try Files.readAll(descriptor.raw, file.string, limit: Self.limit + 1)
            guard bytes.count <= Self.limit else {
                throw SystemCallError("read", "\(file), which has over 8 MiB", .fileTooLarge)
            }
            return bytes
        } catch { throw .system(error) }
    }

    /// The text of a small file; `nil` if there is none of that name.
    func text(_ name: String) throws(ImageError) -> String? {
        try bytes(name).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The words of each line of a small text, without lines that are empty or remarks.
    func lines(_ name: String) throws(ImageError) -> [[String]] {
        (try text(name) ?? "").split(whereSeparator: \.isNewline).map { line in
            line.split(whereSeparator: \.isWhitespace).map(String.init)
        }.filter { !($0.first ?? "#").hasPrefix("#") }
    }

    /// A stream in one file, or in pieces.
    /// - Parameters:
    ///   - base: the common part of the names, without the dot before the suffix.
    ///   - suffixes: those that the folder has; an empty one stands for a stream in one file, `base` itself.
    func stream(_ base: String, _ suffixes: [String]) throws(ImageError) -> PieceStream {
        let pieces = suffixes.filter { !$0.isEmpty }.sorted()
        guard suffixes.contains("") else {
            let order = PieceSuffix.order(pieces.compactMap { PieceSuffix($0) })
            guard order.strays.isEmpty, !order.pieces.isEmpty else {
                let expected = order.pieces.last?.next ?? order.strays.first?.first
                throw .missing(
                    "\(path): a piece of \(base) is missing, or does not belong to it: there is "
                        + "\(base).\(order.strays.first?.text ?? pieces.first ?? ""), but no "
                        + "\(base).\(expected?.text ?? "aa"). Put all pieces into the folder")
            }
            return try stream(order.pieces.map { "\(base).\($0.text)" })
        }
        guard pieces.isEmpty else {
            throw refusal(
                "it has both \(base) and pieces of it (\(base).\(pieces[0])): remove what does not belong to this image"
            )
        }
        return try stream([base])
    }

    private func stream(_ names: [String]) throws(ImageError) -> PieceStream {
        var files: [FilePath] = []
        for name in names { if let file = try file(name) { files.append(file) } }
        return PieceStream(files)
    }

    /// An error about one of its files.
    func damage(_ name: String, _ what: String) -> ImageError {
        .damaged(name: path.appending(name).string, what: what, fileOffset: 0, disk: nil, partition: nil)
    }

    /// A refusal that names the folder; `why` is a sentence.
    func refusal(_ why: String) -> ImageError { .refused("\(path): \(why)") }
}
