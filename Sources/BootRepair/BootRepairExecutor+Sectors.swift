// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemAccess
import SystemPackage

/// Sectors to be written, with the contents of their source files, read while the system was mounted.
struct ReadySectors {
    let writes: SectorWrites
    /// The bytes of each run's file; `nil` if they are on the disk.
    let contents: [[UInt8]?]
}

extension BootRepairExecutor {
    /// Reads (or makes) the files that a write needs.
    func ready(_ writes: SectorWrites, _ tree: SystemTree?) throws(SystemCallError) -> ReadySectors {
        var contents: [[UInt8]?] = []
        for run in writes.runs { contents.append(try content(of: run.source, tree)) }
        return ReadySectors(writes: writes, contents: contents)
    }

    func content(of source: SectorRun.Source, _ tree: SystemTree?) throws(SystemCallError) -> [UInt8]? {
        switch source {
        case .present: return nil
        case .systemFile(let path):
            let anchor = try anchored(.system, tree)
            return try anchor.read(path)
        case .ownFile(let path): return try Files.read(FilePath(path))
        case .built(let file):
            switch file.inputs {
            case .own(let folder): return try Self.build(file, from: folder)
            case .system(let folder, let endings, let name):
                let copy = try TreeFolderCopy(
                    of: folder, in: try anchored(.system, tree), endings: endings, name: name)
                return try withExtendedLifetime(copy) { () throws(SystemCallError) in
                    try Self.build(file, from: copy.path.string)
                }
            }
        }
    }

    private static func build(_ file: BuiltFile, from inputs: String) throws(SystemCallError) -> [UInt8] {
        let folder = try Files.makeTemporaryFolder("reforge-build")
        let result = folder.appending(file.name)
        defer {
            try? Files.remove(result)
            try? Files.removeFolder(folder)
        }
        let output = try ChildProcess.run(file.command(inputs: inputs, result: result.string))
        guard output.succeeded else {
            throw SystemCallError("make", "\(file.name) (\(file.program): \(output.lastWords))", .invalidArgument)
        }
        return try Files.read(result)
    }

    /// Writes the runs in order, after checking that all of them can be written.
    mutating func put(_ ready: ReadySectors) {
        let writes = ready.writes
        do {
            let target = try openForWriting()
            var parts: [(offset: UInt64, bytes: [UInt8])] = []
            for (run, content) in zip(writes.runs, ready.contents) {
                let offset = run.sector * 512
                let present: [UInt8] = try run.readsDisk ? target.readBytes(at: offset, count: 512) : []
                parts.append((offset, try run.composed(of: content, over: present)))
            }
            for (index, part) in parts.enumerated() {
                // Each run must be on the disk before the run that points to it.
                if index > 0 { try target.flush() }
                try target.writeBytes(part.bytes, at: part.offset)
            }
            try target.dropCache()
            outcome.changed.append(writes.done)
        } catch let misfit as SectorRun.Misfit {
            pending.append(misfit.sentence)
        } catch {
            pending.append("\(writes.failure): \(error)")
        }
    }
}
