// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

/// Changes in a foreign tree stay in it, whatever its links say.
struct AnchoredChangeTests {
    @Test func staysInside() throws {
        let scratch = try ScratchFolder()
        let (outside, tree) = (scratch.path.appending("outside"), scratch.path.appending("tree"))
        try Files.makeFolders(outside)
        try Files.makeFolders(tree)
        let victim = outside.appending("victim")
        try Files.write(Array("kept".utf8), to: victim)
        try Files.makeLink(tree.appending("etc"), to: outside.string)
        try Files.makeLink(tree.appending("up"), to: "../outside")
        try Files.makeLink(tree.appending("file"), to: victim.string)
        let anchor = try AnchoredFolder(tree)
        for path in ["etc/victim", "up/victim", "../outside/victim"] {
            #expect(throws: SystemCallError.self) { try anchor.remove(path) }
            #expect(throws: SystemCallError.self) { try anchor.rename(path, to: "moved") }
            #expect(anchor.kind(of: path) == nil)
        }
        #expect(anchor.kind(of: "file") == .link)
        #expect(throws: SystemCallError.self) { try anchor.setPermissions("file", [.ownerRead]) }
        // The link itself goes, not its target.
        try anchor.remove("file")
        #expect(try Files.read(victim) == Array("kept".utf8))
        #expect(anchor.kind(of: "file") == nil)
        for path in ["..", ".", "/", ""] { #expect(throws: SystemCallError.self) { try anchor.remove(path) } }
    }

    /// A masked unit of systemd leads to a device, which a tree without devices does not open.
    @Test func knowsWhatALinkLeadsTo() throws {
        let scratch = try ScratchFolder()
        let anchor = try AnchoredFolder(scratch.path)
        try Files.makeFolders(scratch.path.appending("dev"))
        #expect(try ChildProcess.run(["mkfifo", scratch.path.appending("dev/null").string]).succeeded)
        try anchor.write([1], to: "file")
        for (name, target) in [("masked", "/dev/null"), ("plain", "file"), ("up", "/dev"), ("broken", "/nothing")] {
            try Files.makeLink(scratch.path.appending(name), to: target)
        }
        #expect(anchor.kind(at: "masked") == .other && anchor.kind(at: "plain") == .file)
        #expect(anchor.kind(at: "up") == .folder && anchor.kind(at: "broken") == nil)
        #expect(anchor.kind(of: "masked") == .link)
    }

    @Test func doesNotCutFilesOff() throws {
        let scratch = try ScratchFolder()
        let anchor = try AnchoredFolder(scratch.path)
        try anchor.write([1, 2, 3, 4], to: "a")
        #expect(try anchor.readWhole("a", limit: 4).count == 4)
        #expect(throws: SystemCallError.self) { try anchor.readWhole("a", limit: 3) }
        // A sparse file of any length costs no more than the limit.
        let path = scratch.path.appending("huge")
        let file = try OwnedDescriptor.open(path, .readWrite, options: [.create], permissions: [.ownerReadWrite])
        try Files.resize(file.raw, path.string, to: 1 << 40)
        #expect(throws: SystemCallError.self) { try anchor.readWhole("huge", limit: 1 << 16) }
        try Files.makeFolders(scratch.path.appending("folder"))
        #expect(anchor.kind(of: "folder") == .folder)
        #expect(throws: SystemCallError.self) { try anchor.readWhole("folder", limit: 10) }
        #expect(throws: SystemCallError.self) { try anchor.remove("folder") }
        #expect(anchor.names(in: ".", atMost: 2).count == 2)
    }
}
