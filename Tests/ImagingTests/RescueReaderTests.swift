// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import TestSupport
import Testing

@testable import Imaging

/// A disk whose reads fail at some sectors, always or the first few times.
private final class FailingDisk: BlockReader {
    struct State {
        /// The number of further reads of a sector that fail; `nil`: all of them.
        var failures: [UInt64: Int?] = [:]
        var isGone = false
        var readCount = 0
    }
    let bytes: [UInt8]
    let logicalSectorSize: Int
    let name = "failing"
    let errorNumber: Int32
    let state = Monitor(State())
    var byteCount: UInt64 { UInt64(bytes.count) }

    init(_ bytes: [UInt8], sectorSize: Int = 512, errorNumber: Int32 = 5) {
        self.bytes = bytes
        logicalSectorSize = sectorSize
        self.errorNumber = errorNumber
    }

    func fail(_ sectors: some Sequence<UInt64>, times: Int? = nil) {
        state.update { state in for sector in sectors { state.failures[sector] = .some(times) } }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockIOError) {
        let size = UInt64(logicalSectorSize)
        let failed = state.update { state in
            state.readCount += 1
            if state.isGone { return true }
            var failed = false
            for sector in offset / size...(offset + UInt64(buffer.count) - 1) / size {
                guard let entry = state.failures[sector] else { continue }
                failed = true
                if let left = entry { state.failures[sector] = left > 1 ? .some(left - 1) : nil }
            }
            return failed
        }
        if failed {
            throw BlockIOError(
                .read, name: name, offset: offset, byteCount: UInt64(buffer.count), errorNumber: errorNumber,
                reason: "a made-up error")
        }
        bytes.withUnsafeBytes { bytes in
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset) + buffer.count]))
        }
    }
}

@Suite struct RescueReaderTests {
    private let seed = Sample.seed()

    private func noise(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        // No zeros, because unreadable sectors are returned as zeros.
        (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
    }

    /// Random sectors that fail always or for a while, and random reads: exactly the requested bad sectors are recorded
    /// and read as zeros, and every other byte is right.
    @Test(arguments: [512, 4096]) func recordIsExactlyWhatIsBad(sectorSize: Int) throws {
        var random = SeededGenerator(seed: seed)
        for round in 0..<12 {
            // The last sector may be incomplete, as in a file.
            let count = sectorSize * 96 + (round % 4 == 0 ? sectorSize / 2 : 0)
            let disk = FailingDisk(noise(count, &random), sectorSize: sectorSize)
            let total = UInt64((count + sectorSize - 1) / sectorSize)
            let share = Double.random(in: 0...1, using: &random)
            let bad = Set((0..<total).filter { _ in Double.random(in: 0..<1, using: &random) < share * share })
            disk.fail(bad)
            disk.fail((0..<total).filter { !bad.contains($0) && Int.random(in: 0..<8, using: &random) == 0 }, times: 3)
            let reader = RescueReader(disk, retryCount: 3)
            var asked = Set<UInt64>()
            for _ in 0..<12 {
                let start = Int.random(in: 0..<count, using: &random)
                let length = Int.random(in: 1...(count - start), using: &random)
                let sectors = UInt64(start / sectorSize)...UInt64((start + length - 1) / sectorSize)
                asked.formUnion(sectors)
                let got = try reader.readBytes(at: UInt64(start), count: length)
                var expected = Array(disk.bytes[start..<start + length])
                for index in expected.indices where bad.contains(UInt64((start + index) / sectorSize)) {
                    expected[index] = 0
                }
                #expect(got == expected, "\(length) at \(start), round \(round), seed \(seed)")
            }
            let record = AllocationMap(
                byteCount: UInt64(count),
                unsorted: bad.intersection(asked).map {
                    $0 * UInt64(sectorSize)..<($0 + 1) * UInt64(sectorSize)
                })
            #expect(reader.unreadable == record, "round \(round), seed \(seed)")
        }
    }

    @Test func fromSeveralThreads() throws {
        var random = SeededGenerator(seed: seed)
        let disk = FailingDisk(noise(512 * 4000, &random))
        let bad = Set((0..<300).map { _ in UInt64.random(in: 0..<4000, using: &random) })
        disk.fail(bad)
        let reader = RescueReader(disk, retryCount: 1)
        let failures = Monitor<[String]>([])
        let threads = try (0..<4).map { number in
            try WorkerThread {
                // Overlapping halves.
                for part in 0..<8 {
                    let start = (number * 7 + part * 500) % 3500
                    do { _ = try reader.readBytes(at: UInt64(start) * 512, count: 500 * 512) } catch {
                        failures.update { $0.append("\(error)") }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.update { $0 } == [])
        _ = try reader.readBytes(at: 0, count: disk.bytes.count)
        #expect(
            reader.unreadable
                == AllocationMap(byteCount: disk.byteCount, unsorted: bad.map { $0 * 512..<($0 + 1) * 512 }),
            "seed \(seed)")
    }

    @Test func notesNameEachRange() throws {
        let disk = FailingDisk([UInt8](repeating: 7, count: 1 << 16))
        disk.fail([3, 4, 5, 9])
        let notes = Monitor<[String]>([])
        let reader = RescueReader(disk) { text in notes.update { $0.append(text) } }
        _ = try reader.readBytes(at: 0, count: 1 << 16)
        _ = try reader.readBytes(at: 0, count: 1 << 16)
        let said = notes.update { $0 }
        try #require(said.count == 2, "once each: \(said)")
        #expect(said[0].contains("1536 bytes at byte 1536 of failing"))
        #expect(said[1].contains("512 bytes at byte 4608 of failing"))
    }

    /// A single bad sector is retried, but the good ones around it are not read one by one.
    @Test func readsAreFew() throws {
        let disk = FailingDisk([UInt8](repeating: 7, count: 4 << 20))
        disk.fail([5000])
        let reader = RescueReader(disk, retryCount: 2)
        _ = try reader.readBytes(at: 0, count: 4 << 20)
        // The whole range twice, 13 halvings of 8192 sectors with two reads each, the sector three times, one check
        // whether the disk still exists.
        #expect(disk.state.update { $0.readCount } <= 2 + 26 + 3 + 1)
        let before = disk.state.update { $0.readCount }
        #expect(try reader.readBytes(at: 5000 * 512, count: 512) == [UInt8](repeating: 0, count: 512))
        #expect(disk.state.update { $0.readCount } == before, "what was given up is not tried again")
    }

    /// A disk that disappears from its bus is an error, not a disk of zeros.
    @Test func goneDiskIsAnError() throws {
        let disk = FailingDisk([UInt8](repeating: 7, count: 1 << 16))
        let reader = RescueReader(disk, retryCount: 0)
        _ = try reader.readBytes(at: 0, count: 4096)
        disk.state.update { $0.isGone = true }
        #expect { try reader.readBytes(at: 8192, count: 4096) } throws: { "\($0)".contains("no longer answers") }
        #expect(reader.unreadable.ranges == [])
        let other = FailingDisk([UInt8](repeating: 7, count: 1 << 16), errorNumber: 19)
        other.fail([0])
        #expect(throws: BlockIOError.self) { try RescueReader(other).readBytes(at: 0, count: 512) }
        #expect(throws: BlockIOError.self) {
            var byte: [UInt8] = [0]
            try byte.withUnsafeMutableBytes { try reader.read(into: $0, at: 1 << 16) }
        }
    }

    @Test func damageIsBounded() throws {
        let disk = FailingDisk([UInt8](repeating: 7, count: 1 << 16))
        disk.fail(stride(from: 0, to: 64, by: 2))
        let reader = RescueReader(disk, retryCount: 0, rangeLimit: 31)
        #expect { try reader.readBytes(at: 0, count: 1 << 16) } throws: { "\($0)".contains("more than 31") }
        #expect(try RescueReader(disk, retryCount: 0, rangeLimit: 32).readBytes(at: 0, count: 1 << 16).count == 1 << 16)
    }

    /// Direct reads, sector by sector, of a file (a device uses the same code; the machine tests have one).
    @Test func directReaderReadsTheSame() throws {
        let scratch = try ScratchFolder()
        let path = scratch.path.appending("disk")
        var random = SeededGenerator(seed: seed)
        let bytes = noise(1 << 17, &random)
        try Files.write(bytes, to: path)
        let device = try BlockDevice(opening: path)
        guard let direct = DirectReader(device) else { return }  // tmpfs of old kernels
        for _ in 0..<20 {
            let start = Int.random(in: 0..<bytes.count, using: &random)
            let count = Int.random(in: 0...(bytes.count - start), using: &random)
            do {
                let got = try direct.readBytes(at: UInt64(start), count: count)
                #expect(got == Array(bytes[start..<start + count]), "seed \(seed)")
            } catch {
                // A filesystem on 4 KiB sectors refuses direct reads of 512 bytes.
                #expect(error.errorNumber == 22, "\(error)")
            }
        }
    }
}
