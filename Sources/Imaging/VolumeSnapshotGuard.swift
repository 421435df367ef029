// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A separate process that removes a capture's snapshots after the capture has ended in any way.
package final class VolumeSnapshotGuard: Sendable {
    /// The tag of every snapshot that Reforge makes.
    static let tag = "reforge"
    /// The beginning of the name of every snapshot that Reforge makes.
    static let namePrefix = "reforge-snap-"
    /// The message to the guard that nothing is left to remove.
    private static let dismissal: [UInt8] = Array("done\n".utf8)

    private let child: ChildProcess
    private let pipe: Monitor<FileDescriptor?>

    /// Starts the guard, before the first snapshot is made. The guard waits for the end of its pipe, which the kernel
    /// closes when this process dies.
    init(command: [String], tag: ProcessTag) throws {
        // Only the child may hold the read end, and only this process the write end: close-on-exec.
        let ends = try FileDescriptor.pipe(options: .closeOnExec)
        defer { try? ends.readEnd.close() }
        do {
            // A session of its own: Ctrl-C in the terminal is for the capture alone.
            child = try ChildProcess(
                command + [tag.text], input: ends.readEnd, error: .standardError, newSession: true)
        } catch {
            try? ends.writeEnd.close()
            throw error
        }
        pipe = Monitor(ends.writeEnd)
    }

    /// Ends the guard: after it has removed the remaining snapshots, or at once if all are removed.
    func end(allIsRemoved: Bool) {
        let open = pipe.update { pipe in
            let open = pipe
            pipe = nil
            return open
        }
        guard let open else { return }
        if allIsRemoved { _ = try? open.writeAll(Self.dismissal) }
        try? open.close()
        let deadline = SystemFacts.monotonicSeconds() + 60
        while child.poll() == nil, SystemFacts.monotonicSeconds() < deadline { SystemFacts.sleep(seconds: 0.05) }
    }

    deinit { end(allIsRemoved: false) }

    /// Runs the guard process, which `VolumeSnapshotSource.begin` starts by its guard command.
    /// - Parameter argument: the argument that was added to the command.
    /// - Returns: the exit status: 0, or 70 if snapshots are left.
    package static func run(_ argument: String) -> Int32 {
        guard let tag = ProcessTag(argument) else { return 64 }
        // A signal to all processes of a service must not stop the guard before the snapshots are removed.
        SignalHandlers.install(Cancellation())
        var heard: [UInt8] = []
        while true {
            var byte: [UInt8] = [0]
            do {
                let count = try byte.withUnsafeMutableBytes { try FileDescriptor.standardInput.read(into: $0) }
                if count == 0 { break }
                heard += byte
            } catch {
                guard error as? Errno == .interrupted else { break }
            }
        }
        if heard == dismissal { return 0 }
        // A command that was making a snapshot when the capture died still finishes it: check again several times.
        var left: [String] = []
        for round in 0..<4 {
            if round > 0 { SystemFacts.sleep(seconds: 1.5) }
            left = removeAll(tag) { say("reforge: \($0)\n") }
        }
        if !left.isEmpty {
            say(
                "reforge: snapshots are left; the next capture tries again to remove them: \(left.joined(separator: "; "))\n"
            )
        }
        return left.isEmpty ? 0 : 70
    }

    /// Removes all snapshots with a capture's tag; returns those left, with the reasons.
    static func removeAll(_ tag: ProcessTag, _ note: (String) -> Void) -> [String] {
        do {
            return try LogicalVolumes.snapshots(tagged: tag.text).compactMap { snapshot in
                guard snapshot.fullName.contains("/\(namePrefix)") else { return nil }
                do {
                    try LogicalVolumes.removeSnapshot(snapshot.fullName)
                    note("Removed the snapshot \(snapshot.fullName).")
                    return nil
                } catch { return "\(snapshot.fullName) (\(error))" }
            }
        } catch { return ["\(error)"] }
    }

    /// Removes snapshots of captures that ended together with their guards, as in a power cut.
    static func removeLeftovers(_ note: (String) -> Void) throws(LogicalVolumeError) {
        for volume in try LogicalVolumes.survey().volumes
        where volume.isSnapshot && volume.tags.contains(tag) && volume.name.hasPrefix(namePrefix) {
            let owners = volume.tags.compactMap { ProcessTag($0) }
            guard !owners.isEmpty, !owners.contains(where: \.isAlive) else { continue }
            try LogicalVolumes.removeSnapshot(volume.fullName)
            note("Removed the snapshot \(volume.fullName), left by an interrupted capture.")
        }
    }

    private static func say(_ text: String) { _ = try? FileDescriptor.standardError.writeAll(Array(text.utf8)) }
}
