// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import BootFiles

private enum Tools {
    static let areThere = ["cpio", "zstd", "xz"].allSatisfy(ChildProcess.canFind)

    /// Runs a program with bytes on its standard input. At most 4 MiB of output.
    static func run(_ arguments: [String], _ input: [UInt8]) throws -> [UInt8] {
        let output = try ChildProcess.run(arguments, input: input)
        try #require(output.succeeded, "\(arguments): \(output.lastWords)")
        return output.standardOutput
    }
}

/// Archives of cpio(1), compressed by the formats' own programs.
@Suite(.enabled(if: Tools.areThere, "needs cpio, zstd and xz-utils")) struct RealInitramfsTests {
    /// An archive of GNU cpio, with some 600 KB.
    private static func archive() throws -> (bytes: [UInt8], names: Set<String>) {
        let folder = try Files.makeTemporaryFolder("reforge-initramfs")
        defer { _ = try? ChildProcess.run(["rm", "-rf", "--one-file-system", folder.string]) }
        var names: Set<String> = ["conf", "conf/initramfs.conf", "lib", "lib/modules", "lib/modules/6.1"]
        try Files.makeFolders(folder.appending("conf"))
        try Files.makeFolders(folder.appending("lib/modules/6.1"))
        try Files.write(Array("MODULES=dep\n".utf8), to: folder.appending("conf/initramfs.conf"))
        for number in 0..<60 {
            let name = "lib/modules/6.1/module-\(number).ko"
            names.insert(name)
            let bytes = (0..<10_000 + number).map { UInt8(truncatingIfNeeded: $0 &* $0 &+ number) }
            try Files.write(bytes, to: folder.appending(name))
        }
        let list = names.sorted().joined(separator: "\n") + "\n"
        return (
            try Tools.run(["cpio", "-o", "-H", "newc", "--quiet", "-D", folder.string], Array(list.utf8)), names
        )
    }

    @Test(
        arguments: [
            ["cat"], ["zstd", "-qc"], ["xz", "--check=crc32", "-c"], ["lzma", "-c"],
        ])
    func builtInDecoders(_ compressor: [String]) throws {
        let (bytes, names) = try Self.archive()
        var whole = Archive.entry("kernel/x86/microcode/AuthenticAMD.bin", [1]) + Archive.trailer
        whole += try Tools.run(compressor, bytes)
        let initramfs = try Archive.read(whole, step: 1000)
        #expect(initramfs.names == names.union(["kernel/x86/microcode/AuthenticAMD.bin"]))
        #expect(initramfs.modules(for: "6.1").count == 60 && initramfs.isHostOnly == true)
        #expect(initramfs.compressions.count == (compressor == ["cat"] ? 0 : 1))
        // A stream that is cut off is no shorter initramfs.
        #expect(throws: BootFileError.self) { try Archive.read(Array(whole.dropLast(2000))) }
    }

    @Test(arguments: ["gzip -c", "bzip2 -c", "lz4 -lc", "lzop -c"].filter { ChildProcess.canFind($0.prefixWord) })
    func formatsOfPrograms(_ command: String) throws {
        let (bytes, _) = try Self.archive()
        let compressed = try Tools.run(command.split(separator: " ").map(String.init), bytes)
        let format = try #require(InitramfsCompression(head: Array(compressed.prefix(8))))
        let program = try #require(format.program)
        #expect(program[0] == command.prefixWord)
        let initramfs = try InitramfsReader.read(ArrayStream(compressed)) {
            (compression, source) throws(BootFileError) in
            #expect(compression == format)
            var all: [UInt8] = []
            while true {
                let part = try source.next()
                if part.isEmpty { break }
                all += part
            }
            return ArrayStream((try? Tools.run(program, all)) ?? [])
        }
        #expect(initramfs.modules(for: "6.1").count == 60)
    }
}

extension String {
    /// The first word.
    fileprivate var prefixWord: String { String(prefix { $0 != " " }) }
}
