// SPDX-License-Identifier: GPL-3.0-or-later
import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct CalendarTimeTests {
    @Test func agreesWithTheLibraryInUTC() throws {
        let seed = Sample.seed()
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<2000 {
            let seconds = Int64.random(in: 0...253_402_300_799, using: &random)
            let time = CalendarTime(unixSeconds: seconds)
            var source = time_t(seconds)
            var parts = tm()
            gmtime_r(&source, &parts)
            #expect(time.year == Int(parts.tm_year) + 1900 && time.month == Int(parts.tm_mon) + 1)
            #expect(time.day == Int(parts.tm_mday) && time.hour == Int(parts.tm_hour))
            #expect(time.minute == Int(parts.tm_min) && time.second == Int(parts.tm_sec))
            #expect(time.unixSecondsInUTC == seconds)
            var week = [CChar](repeating: 0, count: 32)
            strftime(&week, 32, "%G-W%V", &parts)
            #expect(time.weekText == week.withUnsafeBufferPointer { String(cString: $0.baseAddress.unsafelyUnwrapped) })
            let local = CalendarTime.local(unixSeconds: seconds)
            #expect(CalendarTime.local(unixSeconds: local.unixSecondsInLocalTime) == local)
        }
    }

    @Test func refusesWhatNoCalendarHas() {
        #expect(CalendarTime(year: 2023, month: 2, day: 29) == nil)
        #expect(CalendarTime(year: 2024, month: 2, day: 29) != nil)
        #expect(CalendarTime(year: 2100, month: 2, day: 29) == nil)
        #expect(CalendarTime(year: 2026, month: 13, day: 1) == nil)
        #expect(CalendarTime(year: 2026, month: 4, day: 31) == nil)
        #expect(CalendarTime(year: 2026, month: 4, day: 30, hour: 24) == nil)
        // Out-of-range input is clamped.
        #expect(CalendarTime(unixSeconds: .max, aheadOfUTC: .max).year == 9999)
        #expect(CalendarTime(unixSeconds: .min, aheadOfUTC: .min).year == 1970)
        #expect(CalendarTime.local(unixSeconds: .max).year == 9999)
    }

    @Test func readsTimes() {
        #expect(TimeText("2026-11-22T15:00:05Z")?.unixSeconds == 1_795_359_605)
        #expect(TimeText("2026-11-22T16:00:05+01:00")?.unixSeconds == 1_795_359_605)
        #expect(TimeText("2026-11-22T13:30:05-0130")?.unixSeconds == 1_795_359_605)
        #expect(TimeText("2026-11-22 15:00:05.123Z")?.unixSeconds == 1_795_359_605)
        #expect(TimeText("2026-11-22T15:00Z")?.unixSeconds == 1_795_359_600)
        #expect(TimeText("2026-11-22")?.isDate == true)
        #expect(TimeText("2026-11-22T15:00")?.offsetSeconds == nil)
        #expect(SystemFacts.utcText(1_795_359_605) == "2026-11-22T15:00:05Z")
        // Btrfs stores 64 bits; the year of the second overflows a 32-bit sum.
        for seconds in [Int64.max, 67_767_976_233_446_399, 67_768_000_000_000_000, .min, -70_000_000_000_000] {
            #expect(SystemFacts.utcText(seconds) == "@\(seconds)")
        }
        #expect(SystemFacts.utcText(-1) == "1969-12-31T23:59:59Z")
        for text in [
            "", "2026", "2026-11", "2026-1-22", "2026-11-22T", "2026-11-22T15", "2026-11-22T15:00:", "2026-11-22T25:00",
            "2026-11-22T15:00+1", "2026-11-22T15:00Zx", "2026-11-22T15:00:05.Z", "２026-11-22", "2026-02-30", "latest",
            "2026-11-22T15:00+99:00", "-026-11-22",
        ] { #expect(TimeText(text) == nil, "\(text)") }
    }
}

@Suite struct ProcessFactsTests {
    @Test func tellsProcessesApart() {
        let own = ProcessFacts.own()
        #expect(own.isAlive(seenBy: own) == true)
        var gone = own
        gone.startTicks += 1
        // The process id is in use by another process.
        #expect(gone.isAlive(seenBy: own) == false)
        gone.boot = "another"
        #expect(gone.isAlive(seenBy: own) == nil)
        #expect(gone.isOtherBoot(ofHostOf: own))
        gone.machine = "another"
        #expect(!gone.isOtherBoot(ofHostOf: own))
        #expect(ProcessFacts.startTicks(of: 0) == nil)
        // No process has such a high id.
        #expect(ProcessFacts.isAlive(.max, startTicks: 1) == false)
        // A missing start time proves nothing.
        #expect(ProcessFacts.isAlive(own.process, startTicks: 0) == nil)
    }

    @Test func repeatsUntilStopped() throws {
        let count = Monitor(0)
        let thread = try PeriodicThread(every: 0.01) { count.update { $0 += 1 } }
        count.wait { $0 >= 3 ? () : nil }
        thread.stop()
        let atStop = count.update { $0 }
        SystemFacts.sleep(seconds: 0.05)
        #expect(count.update { $0 } == atStop)
        thread.stop()
    }
}
