// SPDX-License-Identifier: GPL-3.0-or-later
import TestSupport
import Testing

@testable import Appliance
@testable import LinuxSystem

/// T0: the protocol between host and agent.
struct FrameTests {
    static let status = TreeNode.Status(
        kind: .file, permissions: 0o4755, owner: 1000, group: 100, byteCount: 5, allocatedByteCount: 4096, modified: -3,
        modifiedNanoseconds: 999_999_999, inode: 7, device: 8, linkCount: 2, major: 0, minor: 0)

    static func entry(_ path: String, _ kind: AgentEntry.Kind = .file) -> AgentEntry {
        var entry = AgentEntry(status, kind: kind, path: Array(path.utf8))
        if kind == .link { entry.target = Array("../target".utf8) }
        entry.linkCount = 1
        return entry
    }

    static var replies: [AgentReply] {
        var rich = entry("a/\u{1F600}")
        rich.linkID = 3
        rich.attributes = [.init(name: Array("user.x".utf8), value: [0, 255, 10])]
        var volume = AgentVolume(id: 1, disk: 0, partition: 3, byteCount: 1 << 40)
        (volume.kindName, volume.layers, volume.logicalVolume) = ("ext4", ["LUKS", "md"], "vg0/root")
        return [
            .hello(kernel: "6.1"), .volumes([volume]), .mounted(3), .done, .failed(code: 2, text: "gone"),
            .entry(rich), .entry(entry("l", .link)), .extents([0..<4, 8..<9]), .data(offset: 1 << 40, [1, 2]), .fileEnd,
            .problem(path: Array("x".utf8), code: 5, text: "EIO"), .log("update-initramfs: Generating"),
        ]
    }

    @Test func everyMessageComesBack() throws {
        for reply in Self.replies {
            let bytes = reply.frame.bytes
            let (kind, count) = try AgentFrame.header(Array(bytes.prefix(AgentFrame.headerByteCount)))
            #expect(count == bytes.count - AgentFrame.headerByteCount)
            let frame = AgentFrame(kind: kind, payload: Array(bytes.dropFirst(AgentFrame.headerByteCount)))
            #expect(try AgentReply(frame) == reply)
        }
        let requests: [AgentRequest] = [
            .keys([[1, 2], []]), .volumes, .mount(volume: 3, .named([64])), .mount(volume: 0, .topLevel),
            .mount(volume: 0, .standard),
            .walk(.init(mount: 1, path: [47], depth: 2, followsLast: true, contents: false)),
            .walk(.init(mount: 1, path: [47], attributes: true)),
            .doctor(disk: 2, question: Array("{}".utf8)), .repair(disk: 0, question: Array("{}".utf8)),
        ]
        for request in requests { #expect(try AgentRequest(request.frame) == request) }
    }

    @Test func truncatedAndPaddedMessagesAreRefused() {
        for frame in Self.replies.map(\.frame) {
            for length in 0..<frame.payload.count {
                let cut = AgentFrame(kind: frame.kind, payload: Array(frame.payload.prefix(length)))
                #expect(throws: ApplianceError.self) { try AgentReply(cut) }
            }
            let longer = AgentFrame(kind: frame.kind, payload: frame.payload + [0])
            #expect(throws: ApplianceError.self) { try AgentReply(longer) }
        }
    }

    /// The other side would end the stream, and the session with it.
    @Test func tooLongFramesAreRefusedBeforeTheyAreSent() throws {
        let session = try ApplianceSession(folders: [], cancellation: Cancellation())
        let key = [UInt8](repeating: 1, count: AgentFrame.largestPayload / 2)
        #expect(throws: ApplianceError.self) { try session.unlock([key, key, key]) }
        #expect(try session.volumes().isEmpty)
    }

    /// `ls` and `diff --files` of a disk that the machine has not found would end well, with nothing.
    @Test func aDiskWithoutVolumesIsAFailure() throws {
        let volume = AgentVolume(id: 0, disk: 0, partition: 1, byteCount: 1)
        try ApplianceSession.check([volume], diskCount: 1)
        #expect(throws: ApplianceError.self) { try ApplianceSession.check([], diskCount: 1) }
        #expect(throws: ApplianceError.self) { try ApplianceSession.check([volume, volume], diskCount: 2) }
    }

    @Test func aSilentPeerIsGivenUp() throws {
        let pair = try OwnedDescriptor.socketPair()
        let other = OwnedDescriptor(owning: pair.other)
        let channel = AgentChannel(OwnedDescriptor(owning: pair.own), cancellation: Cancellation())
        #expect(throws: ApplianceError.self) { try channel.receive(withinSeconds: 0.01) }
        try other.close()
        #expect(try channel.receive(withinSeconds: 5) == nil)
    }

    @Test func noiseNeverTraps() throws {
        var random = SeededGenerator(seed: Sample.seed())
        for _ in 0..<3000 {
            var frame = try #require(Self.replies.randomElement(using: &random)).frame
            for _ in 0..<Int.random(in: 1...4, using: &random) where !frame.payload.isEmpty {
                frame.payload[Int.random(in: 0..<frame.payload.count, using: &random)] = .random(
                    in: 0...255, using: &random)
            }
            _ = try? AgentReply(frame)
            _ = try? AgentRequest(AgentFrame(kind: frame.kind & 7, payload: frame.payload))
        }
    }

    @Test func headersAreChecked() {
        let good = AgentReply.done.frame.bytes
        #expect(throws: Never.self) { try AgentFrame.header(good) }
        for (index, byte) in [(0, UInt8(0)), (4, 9), (6, 1), (11, 1)] {
            var bad = good
            bad[index] = byte
            #expect(throws: ApplianceError.self, "byte \(index)") { try AgentFrame.header(bad) }
        }
    }

    @Test(arguments: ["..", "a/../b", "/a", "a//b", "a/", ".", "a/.", "a\u{0}b"])
    func pathsThatLeadElsewhereAreRefused(path: String) {
        #expect(throws: ApplianceError.self) { try AgentReply(AgentReply.entry(Self.entry(path)).frame) }
    }

    @Test func namesAreShownWithoutControlCharacters() {
        #expect(AgentText.shown(Array("a\u{1B}[2J\n\\".utf8) + [0xFF]) == "a\\x1b[2J\\x0a\\x5c\\xff")
        #expect(AgentText.shown(Array("\u{202E}é€".utf8)) == "\\xe2\\x80\\xaeé€")
    }

    @Test func walksOutOfOrderAreRefused() throws {
        let root = AgentReply.entry(Self.entry("", .folder))
        func check(_ replies: [AgentReply], contents: Bool = true) throws {
            var check = WalkCheck(contents: contents, depth: .max)
            for reply in replies { try check.take(reply) }
        }
        let whole: [AgentReply] = [
            root, .entry(Self.entry("a", .folder)), .entry(Self.entry("a/b")), .data(offset: 0, [1, 2]),
            .data(offset: 2, [3, 4, 5]), .fileEnd, .entry(Self.entry("b")), .extents([1..<3]),
            .data(offset: 1, [1, 2]),
            .fileEnd, .entry(Self.entry("c")), .problem(path: Array("c".utf8), code: 5, text: ""), .done,
        ]
        #expect(throws: Never.self) { try check(whole) }
        let bad: [[AgentReply]] = [
            [.entry(Self.entry("a"))], [root, root], [root, .entry(Self.entry("a/b"))],
            [root, .entry(Self.entry("b", .folder)), .entry(Self.entry("a", .folder))],
            [root, .entry(Self.entry("a")), .data(offset: 1, [1])],
            [root, .entry(Self.entry("a")), .data(offset: 0, [1, 2, 3, 4, 5, 6])],
            [root, .entry(Self.entry("a")), .data(offset: 0, [1]), .fileEnd],
            [root, .entry(Self.entry("a")), .extents([4..<6])],
            [root, .entry(Self.entry("a")), .entry(Self.entry("b"))], [root, .entry(Self.entry("a")), .done],
            [root, .entry(Self.entry("a", .link)), .entry(Self.entry("a/b"))], [root, .hello(kernel: "")],
            [root, .problem(path: Array("../x".utf8), code: 0, text: "")], [root, .done, .done],
        ]
        for replies in bad { #expect(throws: ApplianceError.self, "\(replies)") { try check(replies) } }
        var second = Self.entry("a", .hardLink)
        second.linkID = 1
        #expect(throws: ApplianceError.self) { try check([root, .entry(second)]) }
    }
}
