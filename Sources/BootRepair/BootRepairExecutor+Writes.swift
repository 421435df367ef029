// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess
import SystemPackage

extension BootRepairExecutor {
    /// Writes new files after making all of them and checking the free space.
    mutating func makeFiles(_ writes: FileWrites, _ tree: SystemTree?) throws(SystemCallError) {
        var files: [(path: String, bytes: [UInt8])] = []
        for file in writes.files { files.append((file.path, try bytes(of: file.content, tree))) }
        let target = try anchored(writes.place, tree)
        let needed = files.reduce(0 as UInt64) { $0 + UInt64($1.bytes.count) + 65536 }
        guard let free = Files.freeByteCount(target.path), free >= needed else {
            throw SystemCallError("write \(writes.name) to", writes.place.name, .noSpace)
        }
        for file in files { try target.makeFolders(FilePath(file.path).removingLastComponent().string) }
        var isChanged = false
        for file in files where (try? target.read(file.path, limit: file.bytes.count + 1)) != file.bytes {
            try target.write(file.bytes, to: file.path)
            isChanged = true
        }
        if isChanged { outcome.changed.append(writes.done) }
    }

    private func bytes(of content: FileWrites.Content, _ tree: SystemTree?) throws(SystemCallError) -> [UInt8] {
        let source: SectorRun.Source
        switch content {
        case .text(let text): return Array(text.utf8)
        case .ownFile(let path): source = .ownFile(path)
        case .built(let file): source = .built(file)
        }
        return try self.content(of: source, tree) ?? []
    }

    /// Adds lines to a text file.
    mutating func addLines(_ addition: LineAddition, _ tree: SystemTree?) throws(SystemCallError) {
        let anchor = try anchored(addition.file.place, tree)
        let old = try anchor.readWhole(addition.file.path, limit: Self.largestText)
        let new = addition.apply(to: old)
        guard new != old else { return }
        try anchor.replace(addition.file.path, with: new)
        outcome.changed.append(addition.done)
    }
}
