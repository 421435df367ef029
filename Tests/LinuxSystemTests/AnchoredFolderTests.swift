// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@Suite struct AnchoredFolderTests {
    /// openat2 fails with EAGAIN where a rename or mount occurs while it resolves "..".
    @Test func renamesElsewhereDoNotHideAFile() throws {
        let scratch = try ScratchFolder()
        let tree = scratch.path.appending("tree")
        try Files.makeFolders(tree.appending("a/b"))
        try Files.write([1], to: tree.appending("a/file"))
        try Files.makeLink(tree.appending("link"), to: String(repeating: "a/b/../../", count: 40) + "a/file")
        let (one, other) = (scratch.path.appending("one"), scratch.path.appending("other"))
        try Files.makeFolders(one)
        let state = Monitor((renames: 0, isOver: false))
        let thread = try WorkerThread {
            while !state.update({ $0.isOver }) {
                try? Files.rename(one, to: other)
                try? Files.rename(other, to: one)
                state.update { $0.renames += 1 }
            }
        }
        defer {
            state.update { $0.isOver = true }
            thread.join()
        }
        let anchor = try AnchoredFolder(tree)
        let deadline = SystemFacts.monotonicSeconds() + 20
        var missed = 0
        // Long enough to meet many of them.
        while state.update({ $0.renames }) < 5000, SystemFacts.monotonicSeconds() < deadline {
            if !anchor.exists("/link") { missed += 1 }
        }
        #expect(missed == 0)
        #expect(state.update { $0.renames } > 0)
    }
}
