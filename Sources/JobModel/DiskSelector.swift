// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel

/// The disk of a job.
public enum DiskSelector: Hashable, Sendable, CustomStringConvertible {
    /// The serial number, exactly.
    case serial(String)
    /// The World Wide Name, with or without its kind (`naa.`, `eui.`, `0x`), either case.
    case wwn(String)
    /// The place in the machine, as /dev/disk/by-path names it.
    case path(String)
    /// An internal disk of at least this many bytes.
    case atLeast(UInt64)
    /// The only internal disk that is neither the medium's nor the image's.
    case only
    /// The only removable disk (USB, SD) that is neither the medium's nor the image's.
    case onlyRemovable
    /// The disk at a path such as `/dev/sda`. Not for settings: at the next boot such a name may mean another disk.
    case node(String)

    /// Parses `serial=…`, `wwn=…`, `path=…`, `size>=…`, `only` or `only-removable`.
    public static func parse(_ text: String) throws(JobFailure) -> DiskSelector {
        func refuse(_ why: String) -> JobFailure {
            JobFailure(
                .usage,
                "\(text.printable): \(why). Selectors are serial=..., wwn=..., path=... (as in /dev/disk/by-path), size>=... (K, M, G, T), only and only-removable."
            )
        }
        if text == "only" { return .only }
        if text == "only-removable" { return .onlyRemovable }
        if let value = text.valueAfter("serial=") {
            guard !value.isBlank else { throw refuse("the serial number is empty") }
            return .serial(value.strippedSpaces)
        }
        if let value = text.valueAfter("wwn=") {
            guard !normalizedName(value).isEmpty else { throw refuse("the name is empty") }
            return .wwn(value)
        }
        if let value = text.valueAfter("path=") {
            let place = value.valueAfter("/dev/disk/by-path/") ?? value
            guard !place.isBlank, !place.contains("/") else { throw refuse("that is not a by-path name") }
            return .path(place)
        }
        if let value = text.valueAfter("size>=") {
            guard let byteCount = SizeText.parse(value) else { throw refuse("\"\(value.printable)\" is not a size") }
            return .atLeast(byteCount)
        }
        throw refuse("not a disk selector")
    }

    /// The text that parses to this.
    public var description: String {
        switch self {
        case .serial(let serial): "serial=\(serial)"
        case .wwn(let name): "wwn=\(name)"
        case .path(let place): "path=\(place)"
        case .atLeast(let byteCount): "size>=\(byteCount)"
        case .only: "only"
        case .onlyRemovable: "only-removable"
        case .node(let path): path
        }
    }

    /// A World Wide Name without its kind, and without the characters that udev and sysfs write differently.
    public static func normalizedName(_ name: String) -> String {
        var text = name.strippedSpaces.lowercased()
        for kind in ["naa.", "eui.", "uuid.", "t10.", "nvme.", "0x"] {
            if let rest = text.valueAfter(kind) {
                text = rest
                break
            }
        }
        return String(text.filter { !$0.isWhitespace && $0 != "-" })
    }
}

extension DiskSelector: Codable {
    /// Reads the text that `description` gives.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        self = text.hasPrefix("/") ? .node(text) : try Self.parse(text)
    }

    /// Writes `description`.
    public func encode(to encoder: any Encoder) throws {
        var value = encoder.singleValueContainer()
        try value.encode(description)
    }
}
