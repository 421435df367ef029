// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import Filesystems
import LinuxSystem
import SystemPackage

/// A filesystem during a resize: the node for its programs, and the names for messages.
struct ResizeJob {
    /// The block device that contains the filesystem from its first byte on.
    let node: String
    /// The filesystem as surveyed.
    let filesystem: FilesystemInfo
    /// The package of its programs.
    let package: String
    /// The command that checks whether it is whole.
    let checkCommand: String
    /// Receives the commands and their output.
    let log: (String) -> Void

    /// Whether a program was started that may write to the filesystem.
    let begun = Begun()

    final class Begun {
        var isTrue = false
    }

    /// The kernel's name of the node.
    var nodeName: String { FilePath(node).lastComponent?.string ?? node }

    /// Runs a program to its end, whatever its exit status.
    func run(_ arguments: [String]) throws(ResizeError) -> ChildProcess.Output {
        log(arguments.joined(separator: " "))
        do throws(SystemCallError) {
            // Days, not hours: a check of a large, slow disk takes long, and killing it would do damage.
            let output = try ChildProcess.run(arguments, timeoutSeconds: 7 * 86400)
            // A progress bar redraws its line with carriage returns.
            for line in (output.text + output.errorText).split(whereSeparator: \.isNewline) { log("  \(line)") }
            return output
        } catch {
            guard error.errno == .noSuchFileOrDirectory else { throw ResizeError(.unreachable(error)) }
            throw ResizeError(.toolMissing(tool: arguments.first ?? "", package: package))
        }
    }

    /// Runs a program that only reads, or makes automatic repairs.
    @discardableResult
    func check(_ arguments: [String], passes: ClosedRange<Int32> = 0...0) throws(ResizeError) -> ChildProcess.Output {
        let output = try run(arguments)
        if case .exited(let status) = output.ending, passes.contains(status) { return output }
        throw ResizeError(
            .checkFailed(
                tool: arguments.first ?? "", ending: "\(output.ending)", lastWords: output.lastWords))
    }

    /// Runs a program that changes the filesystem's length.
    func change(_ arguments: [String]) throws(ResizeError) {
        begun.isTrue = true
        let output = try run(arguments)
        guard output.succeeded else {
            throw ResizeError(
                .resizeFailed(tool: arguments.first ?? "", ending: "\(output.ending)", lastWords: output.lastWords),
                state: inDoubt)
        }
    }

    /// The state after a program that stopped in the middle.
    var inDoubt: ResizeError.State { .inDoubt(check: checkCommand) }

    /// Reads fields of the superblock through the node that the programs use.
    func superblock<Value>(
        _ body: (any BlockReader) throws(BlockIOError) -> Value
    ) throws(ResizeError) -> Value {
        let device: BlockDevice
        do { device = try BlockDevice(opening: FilePath(node)) } catch { throw ResizeError(.unreachable(error)) }
        do { return try body(device) } catch { throw ResizeError(.inputOutput(error)) }
    }

    /// Whether Reforge's own reader finds the filesystem cleanly unmounted and its allocation structures consistent.
    func isSurveyedWhole() -> Bool {
        guard let device = try? BlockDevice(opening: FilePath(node)), (try? device.dropCache()) != nil,
            let found = try? VolumeIdentifier.survey(device).0
        else { return false }
        return found.kind == filesystem.kind && found.mapSource == .allocationStructures && found.isClean != false
    }

    /// Mounts the filesystem on a temporary folder while `body` runs, without executing programs
    /// or opening devices in it.
    func mounted(
        type: String, data: String, _ body: (_ mountPoint: String) throws(ResizeError) -> Void
    ) throws(ResizeError) {
        let folder: FilePath
        do { folder = try Files.makeTemporaryFolder("reforge-resize") } catch { throw ResizeError(.unreachable(error)) }
        defer { try? Files.removeFolder(folder) }
        log("mount -t \(type) -o \(data) \(node) \(folder)")
        // A mount that fails during the replay has written.
        if filesystem.isClean == false { begun.isTrue = true }
        let mount: Mount
        do { mount = try Mount(node, on: folder, type: type, options: .untrusted, data: data) } catch {
            throw ResizeError(.mountFailed(error))
        }
        begun.isTrue = true
        let result = Result { () throws(ResizeError) in try body(folder.string) }
        log("umount \(folder)")
        do throws(SystemCallError) {
            try mount.unmount()
            try waitUntilFree()
        } catch {
            // The first failure is reported.
            try result.get()
            throw ResizeError(.mountFailed(error), state: inDoubt)
        }
        try result.get()
    }

    /// A mount namespace created in the meantime has a copy of every mount. Until that is gone too, the filesystem is
    /// in use and not completely on the disk.
    private func waitUntilFree() throws(SystemCallError) {
        let deadline = SystemFacts.monotonicSeconds() + 60
        while true {
            do throws(SystemCallError) {
                _ = try BlockDevice(opening: FilePath(node), .exclusiveRead)
                return
            } catch {
                guard error.errno == .resourceBusy, SystemFacts.monotonicSeconds() < deadline else { throw error }
            }
            SystemFacts.sleep(seconds: 0.1)
        }
    }
}
