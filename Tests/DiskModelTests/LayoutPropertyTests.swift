// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import TestSupport
import Testing

@Suite struct LayoutPropertyTests {
    /// Over random disks, targets, abilities and requests: see `LayoutJudge`. In addition: a refused plan names a size
    /// that works and is the least, a larger target never makes a plan fail, the same question has one answer, and
    /// partitions that fit and keep their size stay at their place.
    @Test func randomDisksKeepTheirInvariants() throws {
        let seed = Sample.seed()
        let count = Sample.isFull ? 120_000 : 5_000
        var random = SeededGenerator(seed: seed)
        var counts: [String: Int] = [:]
        var failureCount = 0
        for index in 0..<count {
            let question = RandomLayoutCase(using: &random)
            let growth = UInt64.random(in: 1...question.source.byteCount, using: &random)
            let (outcome, failures) = examine(question, growth)
            counts[outcome, default: 0] += 1
            guard !failures.isEmpty else { continue }
            failureCount += 1
            Issue.record("seed \(seed), case \(index), \(outcome): \(failures)\n\(question.summary)")
            if failureCount == 3 { break }
        }
        print("layouts: seed \(seed), \(count) cases:", counts.sorted { $0.key < $1.key }.map { "\($0) \($1)" })
        for outcome in ["unchanged", "changed", "smaller", "too small", "wish too large", "wish"]
        where failureCount == 0 {
            #expect(counts[outcome, default: 0] > count / 1000, "too few cases are \(outcome)")
        }
    }

    /// The outcome, and its failures.
    private func examine(_ question: RandomLayoutCase, _ growth: UInt64) -> (String, [String]) {
        do {
            let layout = try question.plan()
            let judge = LayoutJudge(question, layout)
            var failures = judge.failures()
            if try question.plan() != layout { failures.append("another answer") }
            var larger = question
            larger.target.byteCount += growth
            do { failures += LayoutJudge(larger, try larger.plan()).failures().map { "larger: \($0)" } } catch {
                failures.append("a larger target is refused: \(error)")
            }
            let isSame =
                question.source.logicalSectorSize == question.target.logicalSectorSize
                && question.target.byteCount >= question.source.byteCount
            let needsMore = question.table.partitions.contains {
                (question.abilities[$0.number]?.leastByteCount ?? 0) > $0.range.byteCount
            }
            if isSame, question.request.policy == .keep || question.target.byteCount == question.source.byteCount,
                question.request.wishes.isEmpty, !needsMore, !judge.isIdentity
            {
                failures.append("something moved for nothing")
            }
            let isSmaller = layout.placements.contains { $0.isShrunk }
            return (judge.isIdentity ? "unchanged" : isSmaller ? "smaller" : "changed", failures)
        } catch {
            return examine(question, refusedWith: error)
        }
    }

    private func examine(_ question: RandomLayoutCase, refusedWith error: LayoutError) -> (String, [String]) {
        var failures: [String] = []
        func examine(_ shortage: LayoutError.Shortage, _ request: LayoutRequest, _ least: UInt64) {
            var other = question
            other.request = request
            other.target.byteCount = least
            do { failures += LayoutJudge(other, try other.plan()).failures().map { "at its least: \($0)" } } catch {
                failures.append("the least size is refused: \(error)")
            }
            other.target.byteCount = least - 1
            if let layout = try? other.plan() { failures.append("less would do: \(layout.placements)") }
            if shortage.targetByteCount != question.target.byteCount { failures.append("another target") }
        }
        switch error {
        case .tooSmall(let shortage):
            examine(shortage, question.request, shortage.leastByteCount)
            if let least = shortage.leastWithShrinking {
                var request = question.request
                request.policy = .proportional
                examine(shortage, request, least)
            }
            return ("too small", failures)
        case .requestTooLarge(let number, let most, let shortage):
            examine(shortage, question.request, shortage.leastByteCount)
            var other = question
            other.request.wishes[number] = .size(most)
            do { failures += LayoutJudge(other, try other.plan()).failures().map { "at the most: \($0)" } } catch {
                failures.append("the most is refused: \(error)")
            }
            other.request.wishes[number] = .size(most + 1)
            if (try? other.plan()) != nil { failures.append("more than the most works") }
            return ("wish too large", failures)
        case .request(let sentence):
            return ("wish", isWishWrong(question) ? [] : ["refused: \(sentence)"])
        case .table(let sentence):
            let isLarge = question.table.kind == .mbr && question.source.byteCount > 1 << 40
            return ("table", isLarge ? [] : ["refused: \(sentence)"])
        }
    }

    private func isWishWrong(_ question: RandomLayoutCase) -> Bool {
        let wishes = question.request.wishes
        let volumes = question.table.partitions.filter(\.isVolume)
        let unit = UInt64(question.target.logicalSectorSize)
        if wishes.values.count(where: { $0 == .rest }) > 1 { return true }
        if volumes.allSatisfy({ wishes[$0.number] == .drop }) { return true }
        // A dropped logical partition before one that stays.
        let logicals = volumes.filter { $0.mbr?.role == .logical }.map(\.number).sorted()
        let kept = logicals.map { wishes[$0] != .drop }
        if zip(kept, kept.dropFirst()).contains(where: { !$0 && $1 }) { return true }
        return volumes.contains { partition in
            let ability = question.abilities[partition.number]
            let captured = (partition.range.byteCount + unit - 1) / unit * unit
            var least = ((ability?.leastByteCount ?? 0) + unit - 1) / unit * unit
            if ability?.canShrink != true { least = max(least, captured) }
            switch wishes[partition.number] {
            case .size(let wished):
                return (wished + unit - 1) / unit * unit < least
                    || question.table.kind == .mbr && wished > UInt64(UInt32.max) * unit
            case .keep: return captured < least
            default: return false
            }
        }
    }

    /// Tables that no tool writes: a damaged or hostile image always gets an answer, and no
    /// partition exceeds the target.
    @Test func nonsenseHasAnAnswer() throws {
        let seed = Sample.seed()
        var random = SeededGenerator(seed: seed)
        func place() -> UInt64 {
            switch Int.random(in: 0..<8, using: &random) {
            case 0: .random(in: .min ... .max, using: &random)
            case 1: .max - .random(in: 0...8192, using: &random)
            case 2: 0
            default: .random(in: 0...1 << 22, using: &random) * 512
            }
        }
        for _ in 0..<5_000 {
            var question = RandomLayoutCase(using: &random)
            question.table.kind = [.gpt, .mbr, .none, .unknown].randomElement(using: &random) ?? .gpt
            for index in question.table.partitions.indices where Int.random(in: 0..<3, using: &random) == 0 {
                let (first, second) = (place(), place())
                question.table.partitions[index].range = min(first, second)..<max(first, second)
                question.table.partitions[index].mbr =
                    [
                        nil, .init(role: .logical, type: 0), .init(role: .extended, type: 5),
                    ].randomElement(using: &random) ?? nil
                if Bool.random(using: &random) {
                    question.table.partitions[index].number = .random(in: -1...5, using: &random)
                }
            }
            if Bool.random(using: &random) {
                let (first, second) = (place(), place())
                question.table.usable = min(first, second)..<max(first, second)
                question.table.entryCount = [0, -1, .max, .min, 128].randomElement(using: &random) ?? 0
                question.source.byteCount = place()
                question.target.byteCount = place()
            }
            for number in question.abilities.keys where Bool.random(using: &random) {
                question.abilities[number]?.leastByteCount = place()
            }
            for number in question.request.wishes.keys where Bool.random(using: &random) {
                question.request.wishes[number] = .size(place())
            }
            do {
                let layout = try question.plan()
                let isOutside = layout.placements.contains { $0.to.upperBound > question.target.byteCount }
                #expect(!isOutside, "seed \(seed)")
            } catch {
                _ = error.description
            }
        }
    }
}
