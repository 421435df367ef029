// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import JobModel
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import RecoveryInit

/// Random text from pieces meaningful to a parser, and from random bytes.
func hostileText(_ pieces: [String], using random: inout SeededGenerator) -> String {
    var bytes: [UInt8] = []
    for _ in 0..<Int.random(in: 0...12, using: &random) {
        if Int.random(in: 0..<3, using: &random) > 0 {
            bytes += Array((pieces.randomElement(using: &random) ?? "").utf8)
        } else {
            bytes += (0..<Int.random(in: 0...6, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}

/// The failure that `body` must throw.
func refusal<Value>(_ body: () throws(JobFailure) -> Value) -> JobFailure? {
    do {
        _ = try body()
        return nil
    } catch {
        return error
    }
}

/// Whether the programs are installed.
func has(_ programs: String...) -> Bool {
    programs.allSatisfy { name in
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].contains {
            Files.exists(FilePath("\($0)/\(name)"))
        }
    }
}

/// The checkout, three folders above this file.
let projectRoot = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()

/// Where two disks differ first; `nil` where they do not. (Millions of bytes are too many for an expectation's own report.)
func firstDifference(_ one: [UInt8], _ other: [UInt8]) -> Int? {
    if one == other { return nil }
    return zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(one.count, other.count)
}

/// A folder for one test, removed with the test.
final class TemporaryFolder {
    let path: FilePath
    init() throws { path = try Files.makeTemporaryFolder("reforge-init") }
    deinit { _ = try? ChildProcess.run(["rm", "-rf", path.string]) }
    func file(_ name: String) -> FilePath { path.appending(name) }
}
