// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing

/// What a grub.cfg says about where things are.
public struct GrubConfiguration: Sendable {
    /// A place that it names.
    enum Reference: Hashable {
        /// A filesystem by UUID.
        case filesystem(String)
        /// A partition by GUID.
        case partition(String)
        /// A filesystem by label, or a partition by name.
        case label(String)
        /// A device by name.
        case device(String)
    }

    /// A kernel that it starts.
    struct Entry: Equatable {
        /// Where the kernel is looked for; `nil` where the entry leaves that to what came before it.
        var search: Reference?
        /// What the kernel gets as root.
        var root: Reference?
        /// What the kernel gets to resume from.
        var resume: Reference?
    }

    /// The kernels that it starts, in order.
    let entries: [Entry]
    /// Whether entries come from /boot/loader/entries (Boot Loader Specification).
    let usesLoaderEntries: Bool

    /// Parses the text.
    public init(_ text: String) {
        var entries: [Entry] = []
        var search: Reference?
        var usesLoaderEntries = false
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }.map { $0.filter { $0 != "\"" && $0 != "'" } }
            guard let command = words.first, !command.hasPrefix("#") else { continue }
            switch command {
            case "menuentry", "submenu": search = nil
            case "search" where words.contains("--fs-uuid"), "search.fs_uuid":
                // The UUID is the last word as a rule, but GRUB takes it anywhere.
                if let uuid = words.dropFirst().last(where: { ESPReader.looksLikeUUID($0[...]) }) {
                    search = .filesystem(uuid.lowercased())
                }
            case "linux", "linuxefi", "linux16":
                entries.append(
                    Entry(
                        search: search, root: words.lazy.compactMap { Self.value(of: "root=", $0) }.first,
                        resume: words.lazy.compactMap { Self.value(of: "resume=", $0) }.first))
            case "blscfg": usesLoaderEntries = true
            default: break
            }
        }
        self.entries = entries
        self.usesLoaderEntries = usesLoaderEntries
    }

    private static func value(of key: String, _ word: String) -> Reference? {
        guard word.hasPrefix(key) else { return nil }
        let value = word.dropFirst(key.count)
        if value.hasPrefix("UUID=") { return .filesystem(value.dropFirst(5).lowercased()) }
        if value.hasPrefix("PARTUUID=") { return .partition(value.dropFirst(9).lowercased()) }
        if value.hasPrefix("LABEL=") { return .label(String(value.dropFirst(6))) }
        if value.hasPrefix("PARTLABEL=") { return .label(String(value.dropFirst(10))) }
        return .device(String(value))
    }

    /// Why the system on `rootPartition` of a disk with these volumes does not start by it, a sentence part each; empty
    /// where it does. What other entries (of systems on other disks) say does not count.
    public func problems(volumes: [BootVolume], rootPartition: Int) -> [String] {
        guard let first = entries.first else { return usesLoaderEntries ? [] : ["it starts no kernel"] }
        var problems: [String] = []
        if case .device(let path) = first.root, DevicePartitionName(path) != nil {
            problems.append("its first entry names the device \(path), which may have another name on this machine")
        }
        for reference in [first.search, first.root] {
            switch reference {
            case .filesystem(let id), .partition(let id):
                if !volumes.contains(where: { Self.names(reference, $0) }) {
                    problems.append("its first entry looks for \(id), which is not on this disk")
                }
            default: break
            }
        }
        let root = volumes.first { $0.number == rootPartition }
        if problems.isEmpty, let root, !entries.contains(where: { Self.names($0.root, root) }) {
            problems.append("none of its kernels gets this system's root by UUID")
        }
        return problems
    }

    /// Where a system resumes from, where that is not on a disk with these volumes: it waits for that at each start.
    public func lostResume(volumes: [BootVolume]) -> [String] {
        entries.compactMap(\.resume).reduce(into: []) { lost, reference in
            let text =
                switch reference {
                case .filesystem(let id), .partition(let id), .label(let id): id
                case .device(let path): path
                }
            if !volumes.contains(where: { Self.names(reference, $0) }), !lost.contains(text) { lost.append(text) }
        }
    }

    private static func names(_ reference: Reference?, _ volume: BootVolume) -> Bool {
        switch reference {
        case .filesystem(let uuid): volume.uuid?.lowercased() == uuid
        case .partition(let guid): volume.partUUID == guid
        case .label(let label): volume.label == label || volume.name == label
        case .device(let path): volume.mapperPaths.contains(path)
        case nil: false
        }
    }
}
