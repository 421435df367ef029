// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Customization

struct HookScriptTests {
    @Test func takesScriptsAndPrograms() throws {
        #expect(try HookScript(name: "10-join.sh", bytes: Array("#!/bin/sh\n".utf8)).name == "10-join.sh")
        _ = try HookScript(name: "a", bytes: [0x7F, 0x45, 0x4C, 0x46])
    }

    @Test(arguments: ["", ".hidden", "a b", "a/b", "..", "a\n", "ä"])
    func refusesNames(_ name: String) {
        #expect(throws: HookScript.Misfit.self) { try HookScript(name: name, bytes: Array("#!/bin/sh\n".utf8)) }
    }

    @Test func refusesOtherFiles() throws {
        #expect(throws: HookScript.Misfit.self) { try HookScript(name: "a", bytes: Array("echo".utf8)) }
        #expect(throws: HookScript.Misfit.self) { try HookScript(name: "a", bytes: []) }
        #expect(throws: HookScript.Misfit.self) {
            try HookScript(name: "a", bytes: Array("#!".utf8) + [UInt8](repeating: 10, count: HookScript.longest))
        }
        let scratch = try ScratchFolder()
        #expect(throws: SystemCallError.self) { try HookScript.read([scratch.path.appending("none")]) }
        let path = scratch.path.appending("a")
        try Files.write(Array("#!/bin/sh\n".utf8), to: path)
        #expect(try HookScript.read([path]).count == 1)
        #expect(throws: HookScript.Misfit.self) { try HookScript.read([path, path]) }
    }

    @Test func keepsTheEndOfOutputs() {
        #expect(Customization.end(of: "short\n") == "short\n")
        let long = String(repeating: "0123456789\n", count: 1000) + "last\n"
        let end = Customization.end(of: long)
        #expect(end.hasPrefix("…\n0123456789\n") && end.hasSuffix("last\n"))
        #expect(end.utf8.count <= Customization.keptOutput + 4)
        #expect(Customization.end(of: String(repeating: "x", count: 10000)).hasPrefix("… x"))
    }
}
