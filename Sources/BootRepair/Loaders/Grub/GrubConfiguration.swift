// SPDX-License-Identifier: GPL-3.0-or-later
import SystemAccess

/// What a grub.cfg says about where things are.
package struct GrubConfiguration: Sendable {
    /// A kernel that it starts.
    struct Entry: Equatable {
        /// Where the kernel is looked for; `nil` where the entry leaves that to what came before it.
        var search: BootReference?
        /// What the kernel gets as root.
        var root: BootReference?
        /// What the kernel gets to resume from.
        var resume: BootReference?
    }

    /// Something that a menu entry starts.
    struct OtherSystem: Equatable {
        /// What is started, and where it lies.
        enum Place: Hashable {
            /// A kernel with this root.
            case kernel(root: BootReference)
            /// A loader, on the filesystem that the entry looks for.
            case loader(String, on: BootReference?)
        }

        /// The words in the menu.
        var title: String
        /// What tells it from others.
        var place: Place
    }

    /// The kernels that it starts, in order.
    let entries: [Entry]
    /// What its menu entries start, in order.
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
                // The UUID is the last word as a rule, but GRUB takes it anywhere.
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

    /// The quoted words behind `menuentry`.
    private static func title(_ line: Substring) -> String {
        guard let start = line.firstIndex(where: { $0 == "'" || $0 == "\"" }) else { return "" }
        return String(line[line.index(after: start)...].prefix { $0 != line[start] })
    }

    private static func value(of key: String, _ word: String) -> BootReference? {
        word.hasPrefix(key) ? BootReference(word.dropFirst(key.count)) : nil
    }

    /// Why the system on `rootPartition` of a disk with these volumes does not start by it, a sentence part each; empty
    /// where it does. What other entries (of systems on other disks) say does not count.
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
            problems.append("none of its kernels gets this system's root by UUID")
        }
        return problems
    }

    /// What its menu starts besides the system on `rootPartition`: kernels with another root, and other loaders.
    func otherSystems(volumes: [BootVolume], rootPartition: Int) -> [OtherSystem] {
        let own = volumes.first { $0.number == rootPartition }
        return started.reduce(into: []) { others, other in
            if case .kernel(let root) = other.place, let own, root.names(own) { return }
            if !others.contains(where: { $0.place == other.place }) { others.append(other) }
        }
    }

    /// Where a system resumes from, where that is not on a disk with these volumes: it waits for that at each start.
    package func lostResume(volumes: [BootVolume]) -> [String] {
        BootReference.lost(entries.compactMap(\.resume), volumes: volumes)
    }
}
