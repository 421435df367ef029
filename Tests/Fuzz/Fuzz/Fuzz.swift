// SPDX-License-Identifier: GPL-3.0-or-later
import CFuzzer
import DiskModel
import Glibc
import LinuxSystem
import SystemPackage

/// `Fuzz TARGET FOLDER [libFuzzer's options and corpus folders]`, `Fuzz --list`, and `Fuzz --export TARGET FOLDER INPUT
/// OUTPUT`, which writes what the parser reads of an input as a file for Tests/FuzzTests/Inputs. FOLDER keeps the
/// fixtures: what an input means depends on them.
@main struct Fuzz {
    /// One for the process: libFuzzer's callback carries nothing.
    nonisolated(unsafe) private static var session: Session?

    static func main() {
        do { try run(CommandLine.arguments) } catch {
            print("error: \(error)")
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        if arguments.dropFirst().first == "--list" {
            print(FuzzTarget.all.map(\.name).joined(separator: "\n"))
            return
        }
        let isExport = arguments.dropFirst().first == "--export"
        let own = Array(arguments.dropFirst(isExport ? 2 : 1))
        guard own.count >= (isExport ? 4 : 2) else { throw Judge.Verdict("usage: Fuzz TARGET FOLDER [OPTIONS]") }
        let session = try Session(own[0], FilePath(own[1]))
        Self.session = session
        if isExport { return try session.export(try Files.read(FilePath(own[2])), to: FilePath(own[3])) }
        try session.warmUp()
        // What is there before the first input: Swift, the fixtures, the sanitizer's shadow.
        let baseline = residentMebibytes()
        print("\(own[0]): \(session.summary); \(baseline) MiB resident before the first input")
        fflush(nil)
        let options = [arguments[0], "-rss_limit_mb=\(baseline + 256)", "-malloc_limit_mb=256"] + own.dropFirst(2)
        var pointers: [UnsafeMutablePointer<CChar>?] = options.map { strdup($0) }
        pointers.append(nil)
        var count = Int32(options.count)
        let status = pointers.withUnsafeMutableBufferPointer { buffer -> Int32 in
            var base = buffer.baseAddress
            return LLVMFuzzerRunDriver(&count, &base) { data, size in
                guard let session = Fuzz.session else { return 0 }
                session.judge(Array(UnsafeBufferPointer(start: data, count: size)))
                return 0
            }
        }
        exit(status)
    }

    private static func residentMebibytes() -> Int {
        for line in (Files.text("/proc/self/status") ?? "").split(separator: "\n") where line.hasPrefix("VmRSS:") {
            return (Int(line.filter(\.isNumber)) ?? 0) / 1024
        }
        return 0
    }
}

/// One target with its fixtures, ready for inputs.
final class Session {
    private let target: FuzzTarget
    private let judgement: Judge
    private var fixtures: [(fixture: HostileFixture, places: [Range<Int>])] = []

    init(_ name: String, _ folder: FilePath) throws {
        guard let target = FuzzTarget.all.first(where: { $0.name == name }),
            let judge = Judge.all.first(where: { $0.name == name })
        else { throw Judge.Verdict("no target is called \(name)") }
        self.target = target
        judgement = judge
        try Files.makeFolders(folder.appending("fixtures"))
        for (name, make, open) in target.fixtures {
            let path = folder.appending("fixtures").appending(name)
            var bytes: [UInt8]
            if Files.exists(path) {
                let disk = try SparseDisk(try Files.read(path, limit: 1 << 30))
                bytes = try disk.readBytes(at: 0, count: Int(disk.byteCount))
            } else {
                bytes = try make()
                let all = AllocationMap.whole(byteCount: UInt64(bytes.count))
                try Files.write(try SparseDisk(PatchedReader(bytes), ranges: all).file, to: path)
            }
            let fixture = try open(bytes)
            bytes = []
            fixtures.append((fixture, fixture.areas))
        }
        let corpus = folder.appending("corpus")
        try Files.makeFolders(corpus)
        let seeds = try target.text?.seeds() ?? fixtures.indices.map(PatchInput.seed)
        for (index, seed) in seeds.enumerated() { try Files.write(seed, to: corpus.appending("seed-\(index)")) }
    }

    var summary: String {
        target.text != nil
            ? "bytes as they are" : fixtures.map { "\($0.places.count) places" }.joined(separator: ", ")
    }

    /// Judges what is sound, and notes what is read of it.
    func warmUp() throws {
        for index in fixtures.indices {
            let reader = TracingReader(fixtures[index].fixture.reader)
            try judgement.run(reader)
            guard target.isTraced else { continue }
            let count = fixtures[index].fixture.bytes.count
            fixtures[index].places = reader.trace.places.filter { $0.upperBound <= count }
        }
    }

    private func reader(_ input: [UInt8]) throws -> PatchedReader {
        if let text = target.text { return PatchedReader(try text.encode(input)) }
        let (fixture, places) = fixtures[Int(input.first ?? 0) % fixtures.count]
        return try PatchInput(bytes: input).reader(fixture, places)
    }

    func judge(_ input: [UInt8]) {
        guard let reader = try? reader(input) else { return }
        do { try judgement.run(reader) } catch {
            print("\(target.name): \(error)")
            fflush(nil)
            abort()
        }
    }

    /// Writes what is read of an input, over and over: what is read last may be what ends this program.
    func export(_ input: [UInt8], to output: FilePath) throws {
        try warmUp()
        let damaged = try reader(input)
        let reader = TracingReader(damaged)
        let trace = reader.trace
        func write() throws {
            // A disk that is called huge has zeros behind its bytes.
            var ranges = AllocationMap(byteCount: damaged.byteCount)
            ranges.insert(0..<UInt64(damaged.base.count))
            if target.isTraced, target.text == nil { ranges = trace.ranges }
            try Files.write(try SparseDisk(damaged, ranges: ranges).file, to: output)
        }
        trace.note = { try? write() }
        try write()
        do {
            try judgement.run(reader)
            print("\(target.name): nothing is wrong with this input")
        } catch {
            print("\(target.name): \(error)")
        }
        try write()
    }
}
