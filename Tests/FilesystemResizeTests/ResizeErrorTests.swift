// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import Testing

@testable import FilesystemResize

@Suite struct ResizeErrorTests {
    @Test func everyErrorSaysWhatStateTheFilesystemIsIn() {
        let problems: [ResizeError.Problem] = [
            .unsupported(reason: "FAT keeps its size"), .toolMissing(tool: "resize2fs", package: "e2fsprogs"),
            .checkFailed(tool: "e2fsck", ending: "exit status 4", lastWords: "UNEXPECTED INCONSISTENCY"),
            .resizeFailed(tool: "resize2fs", ending: "exit status 1", lastWords: "no"),
            .tooSmall(requested: 1 << 20, leastByteCount: 3 << 20),
            .unreachable(SystemCallError("open", "/dev/loop0", .permissionDenied)),
        ]
        for problem in problems {
            #expect("\(ResizeError(problem))".contains("keeps its old size"))
            #expect("\(ResizeError(problem, state: .whole(byteCount: 5 << 20)))".hasSuffix("is whole and has 5 MiB"))
            let doubt = "\(ResizeError(problem, state: .inDoubt(check: "e2fsck -f")))"
            #expect(doubt.contains("may be damaged") && doubt.contains("`e2fsck -f`"))
        }
        #expect("\(problems[1])".contains("Debian package e2fsprogs"))
    }

    @Test func whatNtfsresizeSaysIsUnderstood() {
        let text = "Collecting resizing constraints ...\nYou might resize at 15196160 bytes or 16 MB (freeing 47 MB).\n"
        #expect(NTFSResizeTool.least(text, clusterSize: 4096) == 15_196_160 + 4096)
        #expect(NTFSResizeTool.least("ERROR: Volume is full", clusterSize: 4096) == nil)
        #expect(NTFSResizeTool.least("at", clusterSize: 4096) == nil)
        #expect(NTFSResizeTool.least("You might resize at \(UInt64.max) bytes", clusterSize: 4096) == nil)
    }
}
