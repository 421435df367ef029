// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import SystemAccess

struct ReplaceTests {
    /// A rename would replace a link by a file, and what else reads the file would not see the change.
    @Test func aLinkStays() throws {
        let scratch = try ScratchFolder()
        let root = scratch.path.appending("root")
        try Files.makeFolders(root.appending("etc"))
        try Files.makeFolders(root.appending("data"))
        try Files.write(Array("old".utf8), to: root.appending("data/fstab"))
        // Absolute: it is resolved inside of the tree.
        try Files.makeLink(root.appending("etc/fstab"), to: "/data/fstab")
        let anchor = try AnchoredFolder(root)
        try anchor.replace("/etc/fstab", with: Array("new".utf8))
        #expect(anchor.kind(of: "/etc/fstab") == .link && anchor.kind(of: "/data/fstab") == .file)
        #expect(try Files.read(root.appending("data/fstab")) == Array("new".utf8))
        try anchor.replace("/data/fstab", with: Array("again".utf8))
        #expect(anchor.text("/etc/fstab") == "again")
        // A broken one leads nowhere.
        try Files.makeLink(root.appending("etc/broken"), to: "nowhere")
        #expect(throws: SystemCallError.self) { try anchor.replace("/etc/broken", with: []) }
        #expect(anchor.kind(of: "/etc/broken") == .link)
    }
}
