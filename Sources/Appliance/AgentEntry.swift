// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem

/// A file, folder or other entry of a volume, as the agent reports it.
package struct AgentEntry: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        case file = 1
        case folder, link
        /// Another name of a file that came before in the same walk: `linkID` says which.
        case hardLink
        case characterDevice, blockDevice, pipe, socket
        /// A reparse point of NTFS that is no link: its content is in the cloud, or in a format that cannot be read.
        case reparsePoint
        case other
    }

    package struct Attribute: Equatable, Sendable {
        package var name: [UInt8]
        package var value: [UInt8]

        package init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }
    }

    /// From the start of the walk, without a slash in front; empty for the start itself.
    package var path: [UInt8]
    package var kind: Kind
    /// The lower 12 bits of the mode.
    package var permissions: UInt16
    package var owner: UInt32
    package var group: UInt32
    package var byteCount: UInt64
    package var allocatedByteCount: UInt64
    /// Modification time: seconds since 1970, and nanoseconds.
    package var modified: Int64
    package var modifiedNanoseconds: UInt32
    package var linkCount: UInt64
    /// Equal for all names of one file; 0 for a file with one name.
    package var linkID: UInt64
    package var major: UInt32
    package var minor: UInt32
    /// The target of a link, or a description of a reparse point.
    package var target: [UInt8]
    package var attributes: [Attribute]

    package init(_ status: TreeNode.Status, kind: Kind, path: [UInt8]) {
        self.path = path
        self.kind = kind
        permissions = status.permissions
        (owner, group) = (status.owner, status.group)
        (byteCount, allocatedByteCount) = (status.byteCount, status.allocatedByteCount)
        (modified, modifiedNanoseconds) = (status.modified, status.modifiedNanoseconds)
        (linkCount, linkID) = (status.linkCount, 0)
        (major, minor) = (status.major, status.minor)
        (target, attributes) = ([], [])
    }

    /// The components of the path.
    package var components: [[UInt8]] { path.split(separator: UInt8(ascii: "/")).map(Array.init) }
    /// The last component; empty for the start of the walk.
    package var name: [UInt8] { components.last ?? [] }
    /// The attributes by their names: each filesystem has an order of its own.
    package var sortedAttributes: [Attribute] { attributes.sorted { $0.name.lexicographicallyPrecedes($1.name) } }
    /// Whether the contents follow in a walk with contents.
    package var hasContents: Bool { kind == .file }
}

extension AgentEntry {
    /// Linux's limits (`limits.h`): a path, a link's target, the list of attributes and each of them.
    static let longestPath = 1 << 16
    static let longestTarget = 1 << 16
    static let longestAttribute = 1 << 16

    func write(to bytes: inout AgentBytes) {
        bytes.put(path)
        bytes.put(kind.rawValue)
        bytes.put(permissions)
        for number in [owner, group, major, minor, modifiedNanoseconds] { bytes.put(number) }
        for number in [byteCount, allocatedByteCount, linkCount, linkID] { bytes.put(number) }
        bytes.put(modified)
        bytes.put(target)
        bytes.put(UInt32(clamping: attributes.count))
        for attribute in attributes {
            bytes.put(attribute.name)
            bytes.put(attribute.value)
        }
    }

    /// - Throws: unless every component is a plain name: the path is used on the host.
    init(_ reader: inout AgentBytesReader) throws(ApplianceError) {
        path = try reader.string(limit: Self.longestPath)
        guard let kind = Kind(rawValue: try reader.number()) else { throw .untrusted("an entry of unknown kind") }
        self.kind = kind
        permissions = try reader.number()
        (owner, group) = (try reader.number(), try reader.number())
        (major, minor) = (try reader.number(), try reader.number())
        modifiedNanoseconds = try reader.number()
        (byteCount, allocatedByteCount) = (try reader.number(), try reader.number())
        (linkCount, linkID) = (try reader.number(), try reader.number())
        modified = try reader.number()
        target = try reader.string(limit: Self.longestTarget)
        let count = Int(try reader.number(UInt32.self))
        // Each takes two lengths at least.
        guard count <= reader.left / 8 else { throw .untrusted("\(count) attributes") }
        attributes = []
        for _ in 0..<count {
            attributes.append(
                Attribute(name: try reader.string(limit: 255), value: try reader.string(limit: Self.longestAttribute)))
        }
        try check()
    }

    func check() throws(ApplianceError) {
        let parts = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
        guard path.isEmpty || parts.allSatisfy(Self.isName) else {
            throw .untrusted("the path \(AgentText.shown(path))")
        }
        guard permissions <= 0o7777, modifiedNanoseconds < 1_000_000_000, byteCount <= UInt64(Int64.max),
            !target.contains(0), attributes.allSatisfy({ !$0.name.isEmpty && !$0.name.contains(0) }),
            kind != .hardLink || linkID != 0, kind != .link || !target.isEmpty
        else { throw .untrusted("impossible facts about \(AgentText.shown(path))") }
    }

    /// The order of a walk: each folder before what is in it, and the names of a folder by their bytes.
    package static func precedes(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        // As if a slash came before every other byte.
        first.lexicographicallyPrecedes(second) { a, b in
            let slash = UInt8(ascii: "/")
            return a != b && b != slash && (a == slash || a < b)
        }
    }

    /// Whether it is one component of a path.
    package static func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name.count <= 255 * 4 && name != Array(".".utf8) && name != Array("..".utf8)
            && !name.contains(0) && !name.contains(UInt8(ascii: "/"))
    }
}
