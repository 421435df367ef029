// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Appliance
@testable import LinuxSystem

/// T0: what the agent says about damaged filesystems.
struct WalkerTests {
    static func walk(_ folder: FilePath, _ errors: @escaping () -> [String] = { [] }) throws -> [AgentReply] {
        var replies: [AgentReply] = []
        let request = AgentRequest.Walk(mount: 0, path: [], contents: true)
        let walker = AgentWalker(request, kernelErrors: errors) { reply throws(ApplianceError) in
            // As the host reads it.
            replies.append(try AgentReply(reply.frame))
        }
        try walker.visit(try TreeNode.root(folder))
        return replies
    }

    static func problems(_ replies: [AgentReply]) -> [(path: String, text: String)] {
        replies.compactMap { reply in
            guard case .problem(let path, _, let text) = reply else { return nil }
            return (String(decoding: path, as: UTF8.self), text)
        }
    }

    /// ext4 and FAT skip a damaged block of a folder: only the log says that names are missing.
    @Test func errorsOfTheKernelWhileAFolderIsReadAreProblemsOfIt() throws {
        let scratch = try ScratchFolder()
        for name in ["a", "b"] { try Files.makeFolders(scratch.path.appending(name)) }
        try Files.write([1], to: scratch.path.appending("b/file"))
        // Before and after the names of the top, of a, and of b.
        var logged: [[String]] = [["older"], [], [], [], ["older"], ["EXT4-fs error (device vda1)"]]
        let replies = try Self.walk(scratch.path) { logged.isEmpty ? [] : logged.removeFirst() }
        let problems = Self.problems(replies)
        #expect(problems.map(\.path) == ["b"])
        #expect(problems.first?.text.contains("EXT4-fs error") == true)
        #expect(
            replies.contains { if case .entry(let entry) = $0 { entry.path == Array("b/file".utf8) } else { false } })
    }

    /// Sent twice, the name would end the whole walk: entries out of order.
    @Test func aNameThatAFolderHasTwiceIsSentOnce() {
        let names = ["a", "b", "b", "b", "c"].map { Array($0.utf8) }
        let (once, repeated) = AgentWalker.unique(names)
        #expect(once == ["a", "b", "c"].map { Array($0.utf8) } && repeated == [Array("b".utf8)])
    }

    /// A mount that is in use is only detached, and LUKS and LVM below it stay active.
    @Test func foldersAreReleasedBeforeTheirVolumes() throws {
        final class Volumes: AgentVolumes {
            let folder: FilePath
            let report: (Bool) -> Void
            var keys: [[UInt8]] = []

            init(_ folder: FilePath, _ report: @escaping (Bool) -> Void) {
                (self.folder, self.report) = (folder, report)
            }
            deinit {
                let descriptors = Files.names(in: "/proc/self/fd").compactMap {
                    Files.realPath(FilePath("/proc/self/fd/\($0)"))
                }
                report(descriptors.contains(folder))
            }
            func all() -> [AgentVolume] { [] }
            func kernelErrors() -> [String] { [] }
            func mount(_ id: UInt32, _ subvolume: AgentSubvolume) throws(ApplianceError) -> FilePath { folder }
            func diagnose(_ disk: UInt32, _ question: [UInt8]) throws(ApplianceError) -> [UInt8] { [] }
        }
        let scratch = try ScratchFolder()
        let folder = try #require(Files.realPath(scratch.path))
        let pair = try OwnedDescriptor.socketPair()
        let host = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: Cancellation())
        try host.send(AgentRequest.mount(volume: 0, .topLevel).frame)
        shutdown(pair.own.rawValue, Int32(SHUT_WR))
        var wasInUse: Bool?
        func run() throws {
            let agent = AgentChannel(OwnedDescriptor(owning: pair.other), cancellation: Cancellation())
            try Agent(agent, volumes: Volumes(folder) { wasInUse = $0 }).run()
        }
        try run()
        #expect(wasInUse == false)
    }

    static func mark(_ file: FilePath) throws -> Bool {
        try ChildProcess.run(["setfattr", "-n", "user.mark", "-v", "x", file.string], timeoutSeconds: 60).succeeded
    }

    static var hasAttributes: Bool {
        guard ChildProcess.canFind("setfattr"), let scratch = try? ScratchFolder() else { return false }
        return (try? mark(scratch.path)) == true
    }

    /// For a comparison, each name of a file has its attributes: which one comes first can differ.
    @Test(.enabled(if: Self.hasAttributes, "no setfattr here, or no attributes in the temporary folder"))
    func attributesAreSentWithoutContents() throws {
        let scratch = try ScratchFolder()
        let file = scratch.path.appending("a")
        try Files.write([1], to: file)
        #expect(try Self.mark(file))
        #expect(try ChildProcess.run(["ln", file.string, file.string + ".b"], timeoutSeconds: 60).succeeded)
        for isWanted in [true, false] {
            var counts: [Int] = []
            let request = AgentRequest.Walk(mount: 0, path: [], attributes: isWanted)
            let walker = AgentWalker(request, kernelErrors: { [] }) { reply throws(ApplianceError) in
                if case .entry(let entry) = reply, !entry.path.isEmpty { counts.append(entry.attributes.count) }
            }
            try walker.visit(try TreeNode.root(scratch.path))
            #expect(counts == (isWanted ? [1, 1] : [0, 0]))
        }
    }

    @Test func kernelMessagesAreTold() {
        func error(_ text: String) -> String? { KernelLog.error(in: Array(text.utf8)[...]) }
        #expect(
            error("2,339,5140900,-;EXT4-fs error (device vda1): x\n KEY=value\n") == "EXT4-fs error (device vda1): x")
        #expect(error("3,1,2,-,caller=T1;I/O error; dev vda") == "I/O error; dev vda")
        for text in ["4,1,2,-;warning", "11,1,2,-;from a program", "", ";", ",", "x,1;y", "-1,;z"] {
            #expect(error(text) == nil, "\(text)")
        }
    }

    /// Longer than a message may be, and cut within a character.
    @Test func longTextsAreCutAndNotRefused() throws {
        let long = String(repeating: "é", count: 5000)
        #expect(throws: Never.self) { try AgentReply(AgentReply.failed(code: 0, text: "x" + long).frame) }
        #expect(throws: Never.self) { try AgentReply(AgentReply.problem(path: [], code: 0, text: "x" + long).frame) }
        var volume = AgentVolume(id: 0, disk: 0, partition: 1, byteCount: 1)
        (volume.label, volume.obstacle, volume.kindName) = (long, long, long)
        #expect(throws: Never.self) { try AgentReply(AgentReply.volumes([volume]).frame) }
    }
}
