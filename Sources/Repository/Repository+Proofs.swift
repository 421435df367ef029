// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import ImageModel
import LinuxSystem
import ObjectStore

extension Repository {
    /// The number of proofs of a snapshot that are read, and that a prune keeps: the newest ones.
    package static let keptProofCount = 16

    /// Signs proofs: keyed in an encrypted repository.
    package var identity: ChunkIdentity { secrets.identity }

    /// Stores a proof with its snapshot.
    /// - Parameter mayPublish: called right before it is published; throws if the writer's lock is gone.
    /// - Throws: `ImageError.missing` if there is no such snapshot.
    package func store(
        _ proof: RestoreProof, mayPublish: () throws(ImageError) -> Void = { () throws(ImageError) in }
    ) throws(ImageError) {
        guard let id = ContentHash(hexadecimal: proof.facts.imageID), try store.contains(.snapshot(id)) else {
            throw .missing(
                "there is no snapshot \(proof.facts.imageID.prefix(12)) in \(name) that the proof could be stored with")
        }
        let made = UInt64(max(0, TimeText(proof.facts.made)?.unixSeconds ?? SystemFacts.unixSeconds()))
        // The last one counts, and clocks differ: an older verdict from a machine that was ahead must not hide this one.
        let last = try proofNames()[id]?.last?.seconds ?? 0
        let proofName = ProofName(snapshot: id, seconds: max(made, last < .max ? last + 1 : last))
        let bytes: [UInt8]
        do { bytes = try ProofFile.bytes(proof, proofName, secrets) } catch { throw .about(name, error) }
        try mayPublish()
        try store.put(.proof(proofName), bytes, [.durable, .isNew])
    }

    /// The newest proof of a snapshot; `nil` for none. Older ones that are damaged take nothing from it.
    /// - Throws: if it is damaged, was tampered with, or is of another snapshot.
    package func lastProof(of id: ContentHash) throws(ImageError) -> RestoreProof? {
        for name in (try proofNames()[id] ?? []).reversed() {
            guard let file = try openedProof(name) else { continue }
            return try ProofFile.proof(file, name, secrets)
        }
        return nil
    }

    /// The facts of the newest proofs of all snapshots, oldest first, without their attachments, from the last damaged one
    /// on; and the damaged ones.
    package func proofFacts() -> (
        whole: [ContentHash: [RestoreProof.Facts]], damaged: [(name: String, error: ImageError)]
    ) {
        var whole: [ContentHash: [RestoreProof.Facts]] = [:]
        var damaged: [(name: String, error: ImageError)] = []
        let names: [ContentHash: [ProofName]]
        do { names = try proofNames() } catch { return ([:], [(store.source.name(ofAll: .proof), error)]) }
        for name in names.values.joined().sorted() {
            do {
                guard let file = try openedProof(name) else { continue }
                whole[name.snapshot, default: []].append(try ProofFile.facts(file, name, secrets).signed.proof)
            } catch {
                damaged.append((store.name(of: .proof(name)), error))
                // It may have said the contrary: an older one must not be taken for the last.
                whole[name.snapshot] = nil
            }
        }
        return (whole, damaged)
    }

    /// The newest proofs of each snapshot, oldest first.
    private func proofNames() throws(ImageError) -> [ContentHash: [ProofName]] {
        Dictionary(grouping: try store.proofNames(), by: \.snapshot)
            .mapValues { Array($0.sorted().suffix(Self.keptProofCount)) }
    }

    /// - Returns: `nil` if a prune has removed it since the listing.
    private func openedProof(_ name: ProofName) throws(ImageError) -> StoreFile? {
        do { return try store.open(.proof(name)) } catch {
            guard error.isMissingFile else { throw error }
            return nil
        }
    }
}

extension Pruner {
    /// Removes the proofs of snapshots that are gone, and all but the newest ones of each snapshot.
    /// - Parameter gone: the missing snapshots whose absence was confirmed.
    func removeProofs(_ ledger: SnapshotLedger, gone: [ContentHash]) throws(ImageError) {
        if dryRun { return }
        for (id, names) in Dictionary(grouping: try store.proofNames(), by: \.snapshot) {
            var isKept = try store.contains(.snapshot(id))
            if !isKept { isKept = try !isGone(id, ledger, gone) }
            let leaving = isKept ? names.sorted().dropLast(Repository.keptProofCount) : names[...]
            for name in leaving { try store.remove(.proof(name)) }
        }
    }

    /// Absence proves nothing: only a snapshot that was forgotten, is confirmed to be gone, or has left the ledger.
    private func isGone(
        _ id: ContentHash, _ ledger: SnapshotLedger, _ gone: [ContentHash]
    ) throws(ImageError) -> Bool {
        if gone.contains(id) { return true }
        if try ledger.isForgotten(id) { return true }
        return try !store.contains(.publication(id))
    }
}

extension StoreAccess {
    /// The names of all proofs. A repository from before proofs has none.
    func proofNames() throws(ImageError) -> [ProofName] {
        do { return try names(.proof).compactMap { ProofName($0) } } catch {
            guard error.isMissingFile else { throw error }
            return []
        }
    }
}

extension ObjectID {
    static func proof(_ name: ProofName) -> ObjectID { ObjectID(.proof, name.description) }
}
