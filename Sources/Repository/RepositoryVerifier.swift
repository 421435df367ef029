// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel

extension Repository {
    /// Looks at everything (indexes, packs' heads, tables and ends, snapshots, lists, maps), and where asked at contents.
    /// Goes on behind whatever it finds.
    /// - Parameters:
    ///   - readDataPercent: how much of the packs is read and identified, in percent, whole packs at random; `nil` for
    ///     nothing.
    ///   - snapshots: only these, and what they need; `nil` for all, and all packs.
    ///   - seed: which packs are read follows from it.
    ///   - note: is told what a person should know at once.
    ///   - progress: is told how far it is, on this thread.
    /// - Throws: only where it cannot go on at all.
    package func verify(
        readDataPercent: Double? = nil, snapshots: [ContentHash]? = nil,
        seed: UInt64 = UInt64.random(in: 0 ... .max), note: (String) -> Void = { _ in },
        progress: (VerifyProgress) -> Void = { _ in }
    ) throws(ImageError) -> VerifyReport {
        let lock = try store.lock(.verify, note: note)
        defer { lock.release() }
        let verifier = RepositoryVerifier(self, only: snapshots)
        try verifier.run(percent: readDataPercent, seed: seed, progress)
        return verifier.report
    }
}

/// One run of verify: three passes, each of which goes on from what the one before found.
final class RepositoryVerifier {
    private(set) var report = VerifyReport()
    /// Empty until the contents were read.
    private(set) var contents = DamagedContents()
    private let repository: Repository
    private let only: [ContentHash]?

    /// - Parameter only: the snapshots that are looked at, with what they need; `nil` for all, and all packs.
    init(_ repository: Repository, only: [ContentHash]?) {
        self.repository = repository
        self.only = only
    }

    func run(percent: Double?, seed: UInt64, _ progress: (VerifyProgress) -> Void) throws(ImageError) {
        let structure = try StructurePass(repository, only: only).run(&report, progress)
        if let percent {
            report.seed = seed
            contents = try ContentPass(repository, percent: percent, seed: seed).run(
                structure.packs, only == nil ? nil : structure.references, &report, progress)
        }
        AttributionPass(repository, structure, isSelection: only != nil).run(&contents, &report)
    }
}
