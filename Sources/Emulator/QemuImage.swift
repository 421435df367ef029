// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// Makes and converts disk images with `qemu-img`. Formats are always named, never guessed.
package enum QemuImage {
    /// Makes an empty image.
    /// - Parameters:
    ///   - byteCount: the length of the disk.
    ///   - options: options of the format, as `subformat=fixed`.
    package static func create(
        format: String, path: FilePath, byteCount: UInt64, options: [String] = []
    ) throws(EmulatorError) {
        var arguments = ["create", "-q", "-f", format]
        for option in options { arguments += ["-o", option] }
        arguments += [QemuText.plainPath(path), "\(byteCount)"]
        try run(arguments, cancellation: Cancellation())
    }

    /// Copies a disk into an image.
    /// - Parameters:
    ///   - uri: the raw disk: the address of an NBD server.
    ///   - path: replaced if it exists.
    ///   - progress: receives the completed fraction, 0 to 1, on the calling thread.
    package static func convert(
        from uri: String, to path: FilePath, format: String, options: [String] = [],
        progress: (Double) -> Void = { _ in }, cancellation: Cancellation
    ) throws(EmulatorError) {
        var arguments = ["convert", "-p", "-f", "raw", "-O", format]
        for option in options { arguments += ["-o", option] }
        try run(arguments + [uri, QemuText.plainPath(path)], progress: progress, cancellation: cancellation)
    }

    /// Repairs an image in place: replays a log, corrects reference counts.
    /// - Parameter file: open for writing.
    package static func repair(
        _ file: StorageDaemon.File, format: String, cancellation: Cancellation
    ) throws(EmulatorError) {
        try run(["check", "-q", "-r", "all", "-f", format, file.path], files: [file], cancellation: cancellation)
    }

    /// Checks the structure of an image, which is only read. Where it points past the end of its file, or of a part of
    /// it, QEMU would read zeros.
    /// - Parameters:
    ///   - node: a JSON object that states every file of the image, and no backing file.
    ///   - files: those that the node names by `File.path`.
    package static func check(
        _ node: String, files: [StorageDaemon.File], cancellation: Cancellation
    ) throws(EmulatorError) {
        // Status 3: space in the file that nothing refers to, which costs no data.
        try run(["check", "-q", "json:\(node)"], files: files, accepted: [0, 3], cancellation: cancellation)
    }

    private static func run(
        _ arguments: [String], files: [StorageDaemon.File] = [], accepted: [Int32] = [0],
        progress: (Double) -> Void = { _ in }, cancellation: Cancellation
    ) throws(EmulatorError) {
        try QemuProgram.image.require()
        let program = try AttachedProgram(
            [QemuProgram.image.rawValue] + arguments, kept: files.map(\.descriptor), deathSignal: .kill)
        var shown = 0.0
        while program.ending == nil {
            if cancellation.isRequested {
                _ = program.end(withinSeconds: 5)
                throw .cancelled
            }
            let now = String(decoding: program.tail, as: UTF8.self).split(whereSeparator: { "\r\n".contains($0) })
                .reversed().lazy.compactMap { QemuText.progress(String($0)) }.first
            if let now, now / 100 > shown {
                shown = now / 100
                progress(shown)
            }
            SystemFacts.sleep(seconds: 0.01, unless: cancellation)
        }
        guard accepted.contains(where: { program.ending == .exited($0) }) else {
            let said = QemuText.message(program.lines, program: .image, files: files)
            let ending = program.ending.map { "\($0)" } ?? ""
            throw .failed(program: QemuProgram.image.rawValue, why: said.isEmpty ? "it ended with \(ending)" : said)
        }
        if shown < 1 { progress(1) }
    }
}
