// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import ImageFiles
import Imaging
import JobModel
import LinuxSystem
import SystemPackage

/// Reads files of an image, a snapshot or a disk.
package final class FilesOperation {
    private let job: FilesJob
    private let keys: KeyRing
    private let events: any EventSink
    /// Receives what a listing or a search finds; `nil` to keep it in the report.
    private let receive: ((FilesReport.Found) throws -> Void)?
    /// Upper bound on the entries in a report: the machine may have been taken over, and sends as many as it likes.
    private static let mostEntries = 1_000_000

    /// - Parameter receive: receives each entry of a listing or a search at once; the report has none then.
    package init(
        _ job: FilesJob, keys: KeyRing, events: any EventSink, receive: ((FilesReport.Found) throws -> Void)? = nil
    ) {
        self.job = job
        self.receive = receive
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> FilesReport {
        try events.reporting("files", keys.cancellation, outcome: { $0.outcome }) {
            let start = SystemFacts.monotonicSeconds()
            try Self.check(job.action)
            let opened = try OpenedAppliance(job.image, job.appliance, keys, events)
            defer { opened.session.close() }
            var report = FilesReport()
            do { try perform(opened, &report) } catch {
                // The machine cannot tell a damaged image from a volume that holds something unknown.
                if let why = opened.imageError { events.log("the image: \(why)") }
                throw error
            }
            if let why = opened.imageError { noteDamage(why, &report) }
            try opened.check()
            report.seconds = SystemFacts.monotonicSeconds() - start
            return report
        }
    }

    private func perform(_ opened: OpenedAppliance, _ report: inout FilesReport) throws {
        switch job.action {
        case .volumes: report.volumes = opened.resolver.volumes.map(FilesReport.Volume.init)
        case .list(let path): try list(path, opened, &report)
        case .find(let path, let criteria): try find(path, criteria, opened, &report)
        case .get(let paths, let destination, let overwrites):
            try get(paths, destination, overwrites, opened, &report)
        case .tar(let paths, let file, let overwrites): try tar(paths, file, overwrites, opened, &report)
        }
    }

    /// A volume whose start cannot be read is listed as unknown. A file or a folder that cannot be read has its own
    /// problem; without one, the machine read more than was asked for, or found another copy.
    private func noteDamage(_ why: String, _ report: inout FilesReport) {
        if case .volumes = job.action {
            problem([], in: job.image, "volumes may be missing or unknown here, as it cannot be read: \(why)", &report)
        } else if report.problemCount > 0 {
            events.log("the image: \(why)")
        } else {
            events.warn(
                "image-damage", "a part of the image cannot be read, but none of what was asked for: \(why)")
        }
    }

    /// Before anything is started.
    static func check(_ action: FilesJob.Action) throws {
        let paths: [String] =
            switch action {
            case .volumes: []
            case .list(let path), .find(let path, _): [path]
            case .get(let paths, _, _), .tar(let paths, _, _): paths
            }
        var names: Set<[UInt8]> = []
        for path in paths {
            guard let place = FilePlace(path) else {
                throw JobFailure(.usage, "\(path) is no path in an image: it is \(FilePlace.forms)")
            }
            guard paths.count == 1 || place.lastName != nil else {
                throw JobFailure(
                    .usage, "\(path) is all of a volume, whose files would mix with the others: copy it by itself")
            }
            guard names.insert(place.lastName ?? []).inserted else {
                throw JobFailure(
                    .usage, "two of the paths end with the same name (\(path)): copy them one by one, to other places")
            }
        }
        if case .find(_, let criteria) = action, let type = criteria.type, !["f", "d", "l"].contains(type) {
            throw JobFailure(.usage, "--type takes f (file), d (folder) or l (link)")
        }
    }

    // MARK: Listing

    private func list(_ text: String, _ opened: OpenedAppliance, _ report: inout FilesReport) throws {
        let (_, mounted, path) = try opened.resolve(text)
        let follows = text.hasSuffix("/")
        let start = try opened.session.stat(mounted, path, followsLast: follows)
        if receive == nil { report.entries = [] }
        guard start.kind == .folder else {
            return try take(FilesReport.Found(start, prefix: text, path: []), &report)
        }
        try opened.session.walk(mounted, path, depth: 1, followsLast: follows) { reply in
            switch reply {
            case .entry(let entry) where !entry.path.isEmpty:
                try take(FilesReport.Found(entry, prefix: "", path: entry.path), &report)
            case .problem(let path, _, let why): problem(path, in: text, why, &report)
            default: break
            }
        }
    }

    private func take(_ found: FilesReport.Found, _ report: inout FilesReport) throws {
        if let receive { return try receive(found) }
        guard report.entries?.count ?? 0 < Self.mostEntries else {
            throw JobFailure(
                .refused,
                "there are more than \(Self.mostEntries) entries: leave out --json, or name a folder further down")
        }
        report.entries?.append(found)
    }

    private func problem(_ path: [UInt8], in start: String, _ why: String, _ report: inout FilesReport) {
        let problem = FileProblem(path: path.isEmpty ? Array(start.utf8) : path, why: why, cause: .image)
        events.log("\(problem.path): \(why)")
        report.add(problem)
    }

    private func find(
        _ text: String, _ criteria: FileCriteria, _ opened: OpenedAppliance, _ report: inout FilesReport
    ) throws {
        let (_, mounted, path) = try opened.resolve(text)
        if receive == nil { report.entries = [] }
        let prefix = text.hasSuffix("/") || text.hasSuffix(":") ? text : text + "/"
        try opened.session.walk(mounted, path, followsLast: text.hasSuffix("/")) { reply in
            switch reply {
            case .entry(let entry):
                let name = entry.path.isEmpty ? FilePlace(text)?.lastName ?? [] : entry.name
                guard criteria.match(entry, name: name) else { return }
                try take(
                    FilesReport.Found(entry, prefix: entry.path.isEmpty ? text : prefix, path: entry.path), &report)
            case .problem(let path, _, let why): problem(path, in: text, why, &report)
            default: break
            }
        }
    }

    // MARK: Copying

    private var notices: ReceiverNotices {
        let events = events
        return ReceiverNotices(
            problem: { events.log("\($0.path): \($0.why)") }, warning: { events.warn($0, $1) })
    }

    private func get(
        _ paths: [String], _ destination: String, _ overwrites: Bool, _ opened: OpenedAppliance,
        _ report: inout FilesReport
    ) throws {
        var options = FolderReceiver.Options()
        options.overwrites = overwrites
        if overwrites {
            let source = SourceFiles(of: FilePath(job.image))
            options.mustStay = { source.contains(device: $0, inode: $1) }
        }
        let target = FilePath(destination)
        let status = try Files.status(target)
        let top: FilePath
        var newName: [UInt8]?
        if let status {
            guard status.isFolder else {
                throw JobFailure(.cannotCreate, "\(destination) exists, and is no folder: name a folder")
            }
            top = target
        } else {
            guard paths.count == 1, let last = target.lastComponent?.string else {
                throw JobFailure(.notFound, "\(destination) does not exist: several files need a folder to go into")
            }
            let parent = target.removingLastComponent()
            (top, newName) = (parent.isEmpty ? "." : parent, Array(last.utf8))
        }
        let folder: FolderWriter
        do { folder = try FolderWriter(top) } catch { throw SystemCallError("open", top.string, error) }
        let receiver = FolderReceiver(folder, options, notices)
        try deliver(paths, newName, to: receiver, opened, &report)
    }

    private func tar(
        _ paths: [String], _ file: String, _ overwrites: Bool, _ opened: OpenedAppliance, _ report: inout FilesReport
    ) throws {
        if file == "-", SystemFacts.isTerminal(.standardOutput) {
            throw JobFailure(.usage, "a tar archive is not for a terminal: redirect the output, or name a file")
        }
        if file != "-" { try Self.checkReplaced(file, overwrites) }
        let output = file == "-" ? ImageOutput() : try ImageOutput(FilePath(file), overwrite: overwrites)
        var waiting: [UInt8] = []
        func flush() throws {
            do { _ = try output.descriptor.writeAll(waiting) } catch {
                throw SystemCallError("write", output.name, error as? Errno ?? .ioError)
            }
            waiting.removeAll(keepingCapacity: true)
        }
        let receiver = TarReceiver(notices) { bytes in
            waiting += bytes
            if waiting.count >= 1 << 20 { try flush() }
        }
        try deliver(paths, nil, to: receiver, opened, &report)
        try flush()
        try output.commit()
    }

    /// Only an archive is replaced: with IMAGE and FILE swapped, the file may be the only copy of a disk.
    static func checkReplaced(_ file: String, _ overwrites: Bool) throws {
        let path = FilePath(file)
        guard let status = try? Stat(path, followTargetSymlink: false) else { return }
        guard overwrites else {
            throw JobFailure(.cannotCreate, "\(file) exists: name another file, or add --overwrite")
        }
        let head = status.type == .regular ? try Files.read(path, limit: 512) : [0]
        guard head.isEmpty || head.dropFirst(257).starts(with: Array("ustar".utf8)) else {
            throw JobFailure(
                .refused,
                "\(file) is no tar archive, so --overwrite does not replace it: are IMAGE and FILE swapped? Name another file, or remove it first"
            )
        }
    }

    private func deliver(
        _ paths: [String], _ newName: [UInt8]?, to receiver: any FileReceiver, _ opened: OpenedAppliance,
        _ report: inout FilesReport
    ) throws {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        for text in paths {
            let (place, mounted, path) = try opened.resolve(text)
            guard path.allSatisfy({ $0 == UInt8(ascii: "/") }) || place.lastName != nil else {
                throw JobFailure(.usage, "\(text) ends with no name")
            }
            let name = newName ?? place.lastName
            try opened.session.walk(mounted, path, followsLast: text.hasSuffix("/"), contents: true) { reply in
                try receiver.take(reply, name: name)
                progress.show("reading files", done: receiver.counts.byteCount, total: 0)
            }
            try receiver.endWalk()
        }
        try receiver.finish()
        report.add(receiver.counts)
    }
}
