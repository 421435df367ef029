// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel

extension Repository {
    /// Checks everything (indexes; heads, tables and ends of packs; snapshots, lists, maps), and contents on request.
    /// Continues after every problem found.
    /// - Parameters:
    ///   - readDataPercent: share of the packs to read and identify, in percent, whole packs at random; `nil` for none.
    ///   - snapshots: check only these, and the contents they need; `nil` for all snapshots and packs.
    ///   - seed: selects the packs to read.
    ///   - note: receives messages for the user.
    ///   - progress: receives the progress, on this thread.
    /// - Throws: only if it cannot continue at all.
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

/// One run of verify: three passes, each based on the results of the previous one.
final class RepositoryVerifier {
    private(set) var report = VerifyReport()
    /// The damaged contents; empty until contents were read.
    private(set) var contents = DamagedContents()
    private let repository: Repository
    private let only: [ContentHash]?

    /// - Parameter only: the snapshots to check, with the contents they need; `nil` for all snapshots and packs.
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
