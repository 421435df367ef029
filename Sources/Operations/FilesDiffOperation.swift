// SPDX-License-Identifier: GPL-3.0-or-later
import Appliance
import Codecs
import Imaging
import JobModel
import LinuxSystem

/// Compares the files of two images. Each has a machine of its own: both hold the same identifiers, which no kernel
/// accepts twice. Both walks are in the same order, so that they are merged as they arrive.
package final class FilesDiffOperation {
    private let job: FilesDiffJob
    private let keys: KeyRing
    private let events: any EventSink
    private var findings = Findings()
    /// Files of equal length and other time, whose contents are compared at the end of a volume.
    private var doubtful: [Doubt] = []

    package struct Findings: Encodable {
        package struct Change: Encodable {
            package enum Kind: String, Encodable, Sendable { case added, removed, changed }
            package var change: Kind
            package var volume: String
            package var path: String
            /// Of a change: `content`, `size`, `kind`, `permissions`, `owner`, `target`, `attributes`, `time`.
            package var what: [String]
            package var byteCountThen: UInt64?
            package var byteCountNow: UInt64?
        }

        package let schema = 1
        package var changes: [Change] = []
        /// Volumes that only one of the images has, or that cannot be read.
        package var notes: [String] = []
        package var comparedVolumes: [String] = []
        package var problemCount: UInt64 = 0
        package var problems: [FilesReport.Problem] = []
        package var outcome: Outcome { Outcome(problemCount > 0 ? .badImage : .done) }

        mutating func add(_ problem: FileProblem) {
            problemCount += 1
            if problems.count < 1000 { problems.append(FilesReport.Problem(problem)) }
        }
    }

    private struct Doubt {
        var path: [UInt8]
        var position: Int
    }

    private struct Side {
        let opened: OpenedAppliance
        var mounted: ApplianceSession.Mounted
    }

    package init(_ job: FilesDiffJob, keys: KeyRing, events: any EventSink) {
        self.job = job
        self.keys = keys
        keys.allowsBacking = job.allowsBacking
        self.events = events
    }

    /// - Throws: `JobFailure` or an error of the engines.
    package func run() throws -> Findings {
        try events.reporting("diff", keys.cancellation, outcome: { $0.outcome }) {
            let old = try OpenedAppliance(job.from, job.appliance, keys, events)
            defer { old.session.close() }
            let new = try OpenedAppliance(job.to, job.appliance, keys, events)
            defer { new.session.close() }
            try compareVolumes(old, new)
            for opened in [old, new] {
                guard let why = opened.imageError else { continue }
                problem(Array(opened.text.utf8), "what cannot be read was not compared: \(why)")
            }
            try old.check()
            try new.check()
            return findings
        }
    }

    private func compareVolumes(_ old: OpenedAppliance, _ new: OpenedAppliance) throws {
        let progress = Progress()
        let reporter = ProgressReporter(progress, events)
        defer { reporter.end() }
        for volume in old.resolver.volumes + new.resolver.volumes where !volume.obstacle.isEmpty {
            let note = "\(volume.name) was not compared: \(volume.obstacle)"
            if !findings.notes.contains(note) { findings.notes.append(note) }
        }
        let (first, second) = (old.resolver.volumes.filter(\.isMountable), new.resolver.volumes.filter(\.isMountable))
        for volume in second where !first.contains(where: { $0.name == volume.name }) {
            guard !isBlocked(volume, in: old) else { continue }
            findings.notes.append("\(volume.name) (\(volume.kindName)) has files only in \(job.to)")
        }
        for volume in first {
            guard let other = second.first(where: { $0.name == volume.name }) else {
                guard !isBlocked(volume, in: new) else { continue }
                findings.notes.append("\(volume.name) (\(volume.kindName)) has files only in \(job.from)")
                continue
            }
            guard let before = try side(old, volume), let after = try side(new, other) else { continue }
            let sides = (before, after)
            findings.comparedVolumes.append(volume.name)
            try merge(volume.name, sides.0, sides.1, progress)
            try decide(sides.0, sides.1, progress)
        }
    }

    /// Whether a volume of the one image cannot be read in the other one, which is recorded: neither a difference nor
    /// an equal volume.
    private func isBlocked(_ volume: AgentVolume, in other: OpenedAppliance) -> Bool {
        let obstacle = other.resolver.volumes.first { $0.name == volume.name && !$0.obstacle.isEmpty }?.obstacle
        guard let obstacle else { return false }
        problem(
            volume.name, [], "it was not compared, as \(other.text) has it, and it cannot be read there: \(obstacle)")
        return true
    }

    /// A mounted volume; `nil` if it cannot be mounted, which is recorded: the others are compared.
    private func side(_ opened: OpenedAppliance, _ volume: AgentVolume) throws -> Side? {
        opened.noteJournal(of: volume)
        do throws(ApplianceError) {
            return Side(opened: opened, mounted: try opened.resolver.mount(volume, .topLevel))
        } catch {
            switch error {
            case .failed, .refused: problem(volume.name, [], "it was not compared: \(error)")
            default: throw error
            }
            return nil
        }
    }

    // MARK: Merging

    private func merge(_ volume: String, _ old: Side, _ new: Side, _ progress: Progress) throws {
        for side in [old, new] { try side.opened.session.beginWalk(side.mounted, [], attributes: true) }
        var (first, second) = (try next(old, volume), try next(new, volume))
        var count: UInt64 = 0
        while first != nil || second != nil {
            count += 1
            if count % 256 == 0 { progress.show("comparing files of \(volume)", done: count, total: 0) }
            if let before = first, second.map({ AgentEntry.precedes(before.path, $0.path) }) ?? true {
                try add(.removed, volume, before, then: before.byteCount)
                first = try next(old, volume)
            } else if let after = second, first.map({ AgentEntry.precedes(after.path, $0.path) }) ?? true {
                try add(.added, volume, after, now: after.byteCount)
                second = try next(new, volume)
            } else if let before = first, let after = second {
                try compare(volume, before, after)
                (first, second) = (try next(old, volume), try next(new, volume))
            }
        }
    }

    /// The next entry of a walk; problems on the way are recorded.
    private func next(_ side: Side, _ volume: String) throws -> AgentEntry? {
        while let reply = try side.opened.session.nextOfWalk() {
            switch reply {
            case .entry(let entry): return entry
            case .problem(let path, _, let why): problem(volume, path, why)
            default: break
            }
        }
        return nil
    }

    private func problem(_ volume: String, _ path: [UInt8], _ why: String) {
        problem(Array("\(volume):/".utf8) + path, why)
    }

    private func problem(_ path: [UInt8], _ why: String) {
        let problem = FileProblem(path: path, why: why, cause: .image)
        events.log("\(problem.path): \(why)")
        findings.add(problem)
    }

    /// Upper bound on the changes in memory.
    private static let mostChanges = 1_000_000

    private func add(
        _ change: Findings.Change.Kind, _ volume: String, _ entry: AgentEntry, _ what: [String] = [],
        then: UInt64? = nil, now: UInt64? = nil
    ) throws {
        guard findings.changes.count < Self.mostChanges else {
            throw JobFailure(
                .refused,
                "more than \(Self.mostChanges) files differ: these are not two states of one system, or too far apart")
        }
        findings.changes.append(
            Findings.Change(
                change: change, volume: volume, path: "\(volume):/\(AgentText.shown(entry.path))", what: what,
                byteCountThen: then, byteCountNow: now))
    }

    private func compare(_ volume: String, _ old: AgentEntry, _ new: AgentEntry) throws {
        var what: [String] = []
        let isFile = old.kindName == "file" && new.kindName == "file"
        if old.kindName != new.kindName { what.append("kind") }
        if isFile, old.byteCount != new.byteCount { what += ["size", "content"] }
        if old.permissions != new.permissions { what.append("permissions") }
        if old.owner != new.owner || old.group != new.group { what.append("owner") }
        if old.target != new.target || (old.major, old.minor) != (new.major, new.minor) { what.append("target") }
        if old.sortedAttributes != new.sortedAttributes { what.append("attributes") }
        let isOtherTime =
            old.modified != new.modified || old.modifiedNanoseconds != new.modifiedNanoseconds
        // A folder's time changes with each entry, which is listed itself.
        if isOtherTime, old.kind != .folder || new.kind != .folder { what.append("time") }
        guard !what.isEmpty else { return }
        if isFile, isOtherTime, old.byteCount == new.byteCount, old.byteCount > 0 {
            doubtful.append(Doubt(path: new.path, position: findings.changes.count))
        }
        try add(
            .changed, volume, new, what, then: isFile ? old.byteCount : nil, now: isFile ? new.byteCount : nil)
    }

    // MARK: Contents

    private func decide(_ old: Side, _ new: Side, _ progress: Progress) throws {
        for (number, doubt) in doubtful.enumerated() {
            progress.show("comparing contents", done: UInt64(number), total: UInt64(doubtful.count))
            let volume = findings.changes[doubt.position].volume
            guard let then = try hash(old, doubt.path, volume), let now = try hash(new, doubt.path, volume) else {
                continue
            }
            if then != now { findings.changes[doubt.position].what.insert("content", at: 0) }
        }
        doubtful = []
    }

    /// The hash of a file, holes as zeros; `nil` if it cannot be read, which is recorded.
    private func hash(_ side: Side, _ path: [UInt8], _ volume: String) throws -> ContentHash? {
        var hash = SparseHash()
        var byteCount: UInt64 = 0
        var isWhole = false
        try side.opened.session.walk(side.mounted, path, depth: 0, contents: true) { reply in
            switch reply {
            case .entry(let entry): byteCount = entry.byteCount
            case .data(let offset, let bytes): hash.add(bytes, at: offset)
            case .fileEnd: isWhole = true
            case .problem(_, _, let why): problem(volume, path, why)
            default: break
            }
        }
        return isWhole ? hash.finish(byteCount: byteCount) : nil
    }
}
