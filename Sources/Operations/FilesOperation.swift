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

    package init(_ job: FilesJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> FilesReport {
        try events.reporting("files", keys.cancellation, outcome: { $0.outcome }) {
            let start = SystemFacts.monotonicSeconds()
            try checkPaths()
            let opened = try OpenedAppliance(job.image, job.appliance, keys, events)
            defer { opened.session.close() }
            var report = FilesReport()
            switch job.action {
            case .volumes: report.volumes = opened.resolver.volumes.map(FilesReport.Volume.init)
            case .list(let path): try list(path, opened, &report)
            case .find(let path, let criteria): try find(path, criteria, opened, &report)
            case .get(let paths, let destination, let overwrites):
                try get(paths, destination, overwrites, opened, &report)
            case .tar(let paths, let file, let overwrites): try tar(paths, file, overwrites, opened, &report)
            }
            if report.problemCount > 0, let why = opened.imageError { events.log("the image: \(why)") }
            try opened.check()
            report.seconds = SystemFacts.monotonicSeconds() - start
            return report
        }
    }

    /// Before anything is started.
    private func checkPaths() throws {
        let paths: [String] =
            switch job.action {
            case .volumes: []
            case .list(let path), .find(let path, _): [path]
            case .get(let paths, _, _), .tar(let paths, _, _): paths
            }
        for path in paths where FilePlace(path) == nil {
            throw JobFailure(.usage, "\(path) is no path in an image: it is \(FilePlace.forms)")
        }
        if case .find(_, let criteria) = job.action, let type = criteria.type, !["f", "d", "l"].contains(type) {
            throw JobFailure(.usage, "--type takes f (file), d (folder) or l (link)")
        }
    }

    // MARK: Listing

    private func list(_ text: String, _ opened: OpenedAppliance, _ report: inout FilesReport) throws {
        let (_, mounted, path) = try opened.resolve(text)
        let follows = text.hasSuffix("/")
        let start = try opened.session.stat(mounted, path, followsLast: follows)
        var found: [FilesReport.Found] = []
        guard start.kind == .folder else {
            report.entries = [FilesReport.Found(start, prefix: text, path: [])]
            return
        }
        try opened.session.walk(mounted, path, depth: 1, followsLast: follows) { reply in
            switch reply {
            case .entry(let entry) where !entry.path.isEmpty:
                found.append(FilesReport.Found(entry, prefix: "", path: entry.path))
            case .problem(let path, _, let why): problem(path, why, &report)
            default: break
            }
        }
        report.entries = found
    }

    private func problem(_ path: [UInt8], _ why: String, _ report: inout FilesReport) {
        let problem = FileProblem(path: path, why: why, cause: .image)
        events.log("\(problem.path): \(why)")
        report.add(problem)
    }

    private func find(
        _ text: String, _ criteria: FileCriteria, _ opened: OpenedAppliance, _ report: inout FilesReport
    ) throws {
        let (_, mounted, path) = try opened.resolve(text)
        var found: [FilesReport.Found] = []
        let prefix = text.hasSuffix("/") || text.hasSuffix(":") ? text : text + "/"
        try opened.session.walk(mounted, path, followsLast: text.hasSuffix("/")) { reply in
            switch reply {
            case .entry(let entry):
                let name = entry.path.isEmpty ? FilePlace(text)?.lastName ?? [] : entry.name
                guard criteria.match(entry, name: name) else { return }
                found.append(
                    FilesReport.Found(entry, prefix: entry.path.isEmpty ? text : prefix, path: entry.path))
            case .problem(let path, _, let why): problem(path, why, &report)
            default: break
            }
        }
        report.entries = found
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
        if file != "-", !overwrites, (try? Stat(FilePath(file), followTargetSymlink: false)) != nil {
            throw JobFailure(.cannotCreate, "\(file) exists: name another file, or add --overwrite")
        }
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
