// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// The references to disks and systems in a grub.cfg.
package struct GrubConfiguration: Sendable {
    /// A kernel that it starts.
    struct Entry: Equatable {
        /// The filesystem of the kernel; `nil` if the entry relies on preceding commands.
        var search: BootReference?
        /// The kernel's root parameter.
        var root: BootReference?
        /// The kernel's resume parameter.
        var resume: BootReference?
    }

    /// A system that a menu entry starts.
    struct OtherSystem: Equatable {
        /// The started file and its location.
        enum Place: Hashable {
            /// A kernel with this root.
            case kernel(root: BootReference)
            /// A loader, on the filesystem the entry searches for.
            case loader(String, on: BootReference?)
        }

        /// The title in the menu.
        var title: String
        /// Its identity, to distinguish it from others.
        var place: Place
    }

    /// The kernels that it starts, in order.
    let entries: [Entry]
    /// The systems started by its menu entries, in order.
    let started: [OtherSystem]
    /// Whether entries come from /boot/loader/entries (Boot Loader Specification).
    let usesLoaderEntries: Bool

    /// Parses the text.
    package init(_ text: String) {
        var entries: [Entry] = []
        var started: [OtherSystem] = []
        var title = ""
        var search: BootReference?
        var usesLoaderEntries = false
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }.map { $0.filter { $0 != "\"" && $0 != "'" } }
            guard let command = words.first, !command.hasPrefix("#") else { continue }
            switch command {
            case "menuentry", "submenu":
                search = nil
                title = Self.title(line)
            case "search" where words.contains("--fs-uuid"), "search.fs_uuid":
                // The UUID is usually the last word, but GRUB accepts it anywhere.
                if let uuid = words.dropFirst().last(where: { Self.looksLikeUUID($0[...]) }) {
                    search = .filesystem(uuid.lowercased())
                }
            case "linux", "linuxefi", "linux16":
                let root = words.lazy.compactMap { Self.value(of: "root=", $0) }.first
                entries.append(
                    Entry(
                        search: search, root: root,
                        resume: words.lazy.compactMap { Self.value(of: "resume=", $0) }.first))
                if let root { started.append(OtherSystem(title: title, place: .kernel(root: root))) }
            case "chainloader":
                if let path = words.dropFirst().last {
                    started.append(OtherSystem(title: title, place: .loader(path.lowercased(), on: search)))
                }
            case "blscfg": usesLoaderEntries = true
            default: break
            }
        }
        self.entries = entries
        self.started = started
        self.usesLoaderEntries = usesLoaderEntries
    }

    /// The quoted title after `menuentry`.
    private static func title(_ line: Substring) -> String {
        guard let start = line.firstIndex(where: { $0 == "'" || $0 == "\"" }) else { return "" }
        return String(line[line.index(after: start)...].prefix { $0 != line[start] })
    }

    private static func value(of key: String, _ word: String) -> BootReference? {
        word.hasPrefix(key) ? BootReference(word.dropFirst(key.count)) : nil
    }

    /// The reasons it does not start the system on `rootPartition` of a disk with these volumes, a sentence part each;
    /// empty if it does. Other entries (of systems on other disks) are ignored.
    package func problems(volumes: [BootVolume], rootPartition: Int) -> [String] {
        guard let first = entries.first else { return usesLoaderEntries ? [] : ["it starts no kernel"] }
        var problems: [String] = []
        if case .device(let path) = first.root, DevicePartitionName(path) != nil {
            problems.append("its first entry names the device \(path), which may have another name on this machine")
        }
        for reference in [first.search, first.root] {
            switch reference {
            case .filesystem(let id), .partition(let id):
                if !volumes.contains(where: { reference?.names($0) == true }) {
                    problems.append("its first entry looks for \(id), which is not on this disk")
                }
            default: break
            }
        }
        let root = volumes.first { $0.number == rootPartition }
        if problems.isEmpty, let root, !entries.contains(where: { $0.root?.names(root) == true }) {
            problems.append("no kernel entry has this system's root by UUID")
        }
        return problems
    }

    /// The other systems in its menu: kernels with another root, and other loaders.
    func otherSystems(volumes: [BootVolume], rootPartition: Int) -> [OtherSystem] {
        let own = volumes.first { $0.number == rootPartition }
        return started.reduce(into: []) { others, other in
            if case .kernel(let root) = other.place, let own, root.names(own) { return }
            if !others.contains(where: { $0.place == other.place }) { others.append(other) }
        }
    }

    /// The resume devices that are not on a disk with these volumes: the system waits for them at each start.
    package func lostResume(volumes: [BootVolume]) -> [String] {
        BootReference.lost(entries.compactMap(\.resume), volumes: volumes)
    }
}
