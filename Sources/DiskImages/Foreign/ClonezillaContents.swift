// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel

/// What a Clonezilla folder has of a device: by the names of its files.
struct ClonezillaContents {
    let folder: ForeignFolder

    /// Suffixes of compression; `uncomp` for none. Which one it is, is found by its magic number.
    private static let compressions: Set<String> = [
        "gz", "bz2", "lzo", "lzma", "xz", "lzip", "lrz", "lz4", "zst", "uncomp",
    ]

    /// The name of a device in names of files: `cciss/c0d0p1` is `cciss-c0d0p1`.
    static func fileName(_ device: String) -> String { String(device.map { $0 == "/" ? "-" : $0 }) }

    /// An image of a device: the common part of its names, and the suffixes of its pieces.
    private struct Image {
        var kind: String
        var suffixes: [String]
    }

    /// The content of a device: a stream, a new swap area, or `nil` if the folder has nothing of it.
    func content(of device: String) throws(ImageError) -> ForeignContent? {
        let prefix = Self.fileName(device) + "."
        var images: [String: Image] = [:]
        for name in folder.names where name.hasPrefix(prefix) {
            guard let (base, kind, suffix) = Self.parts(name, after: prefix) else { continue }
            images[base, default: Image(kind: kind, suffixes: [])].suffixes.append(suffix)
        }
        guard images.count < 2 else {
            let names = images.keys.sorted().joined(separator: " and ")
            throw folder.refusal("it has several images of \(device) (\(names)): remove what does not belong to it")
        }
        guard let (base, image) = images.first else { return try swap(device) }
        let stream = try folder.stream(base, image.suffixes)
        switch image.kind {
        case "ntfs-img":
            throw folder.refusal(
                "\(base) is an image of ntfsclone, whose special format is not supported. Restore it with "
                    + "`ntfsclone --restore-image`, and capture that")
        case "lrz":
            throw folder.refusal(
                "\(base) is compressed by lrzip, which cannot be read as a stream. Decompress it with `lrunzip` to "
                    + "\(base.dropLast(4)).uncomp, and remove the compressed file")
        case "000":
            throw folder.refusal(
                "\(base).000 is an image of partimage, which is not supported. Restore it with partimage, and capture "
                    + "that")
        case "dd-img": return .stream(stream, .raw)
        // partclone.dd writes the bytes alone; a header is there if another program of partclone read all sectors.
        case "dd-ptcl-img": return .stream(stream, .probe)
        // Older folders have images of partclone or of partimage without their kind in the name.
        default: return .stream(stream, .partclone)
        }
    }

    /// The numbers of the partitions of a disk that the folder has images of.
    /// - Parameter prefix: what is before the number, in names of files: `sda`, `nvme0n1p`.
    func numbers(after prefix: String) -> Set<Int> {
        var numbers: Set<Int> = []
        for name in folder.names where name.hasPrefix(prefix) {
            let digits = name.dropFirst(prefix.count).prefix { $0.isASCII && $0.isNumber }
            guard let number = Int(digits), name.dropFirst(prefix.count + digits.count).first == ".",
                Self.parts(name, after: "\(prefix)\(digits).") != nil
            else { continue }
            numbers.insert(number)
        }
        return numbers
    }

    /// The common part of the name of an image, its kind, and the suffix of the piece; `nil` for other files, such as
    /// `sda1.dd-img.info`.
    private static func parts(_ name: String, after prefix: String) -> (base: String, kind: String, suffix: String)? {
        var words = name.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false).map(
            String.init)
        guard let first = words.first else { return nil }
        // sda1.aa, sda1.000
        if words.count == 1, let kind = first.first, let piece = PieceSuffix(first),
            piece.isLikely || first.utf8.count == 2
        {
            return (String(prefix.dropLast()), kind.isNumber ? "000" : "ptcl-img", first)
        }
        let isPartclone = first.hasSuffix("-ptcl-img")
        guard isPartclone || first == "dd-img" || first == "ntfs-img" else { return nil }
        words.removeFirst()
        var base = prefix + first
        var kind = isPartclone && first != "dd-ptcl-img" ? "ptcl-img" : first
        if let compression = words.first, compressions.contains(compression) {
            base += "." + compression
            if compression == "lrz" { kind = "lrz" }
            words.removeFirst()
        }
        guard let suffix = words.first else { return (base, kind, "") }
        guard words.count == 1, let piece = PieceSuffix(suffix), piece.isLikely || suffix.utf8.count < 4 else {
            return nil
        }
        return (base, kind, suffix)
    }

    /// `swappt-sda4.info`, which Clonezilla's shell runs: here it is only read.
    private func swap(_ device: String) throws(ImageError) -> ForeignContent? {
        guard let text = try folder.text("swappt-\(Self.fileName(device)).info") else { return nil }
        var values: [String: String] = [:]
        for line in text.split(whereSeparator: \.isNewline) {
            let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { continue }
            values[String(parts[0].filter { !$0.isWhitespace })] = parts[1].filter { $0 != "\"" && $0 != "'" }
        }
        // A label has room for 15 bytes.
        let label = Array((values["LABEL"] ?? "").utf8.prefix(15))
        return .swap(uuid: values["UUID"].flatMap { GUID($0) }, label: String(decoding: label, as: UTF8.self))
    }
}
