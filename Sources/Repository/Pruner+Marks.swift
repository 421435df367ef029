// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import ImageModel
import LinuxSystem
import SystemPackage

extension Pruner {
    /// Marks packs, and then notes who holds a lock that is older than the marks.
    /// - Returns: those.
    func mark(
        _ names: [StoreName], _ reached: (PruneStep) throws(ImageError) -> Void
    ) throws(ImageError) -> [GUID] {
        func holders() throws(ImageError) -> [GUID] {
            try RepositoryLock.held(
                at: repository.path, besides: lock?.record?.uuid,
                now: lock?.keeperSeconds() ?? SystemFacts.unixSeconds(), removesStale: !dryRun
            )
            .filter { $0.record?.reliesOnContents ?? true }.map(\.uuid)
        }
        guard !dryRun, !names.isEmpty else { return try holders() }
        try confirm()
        let uuid = GUID.random()
        do {
            let bytes = try JSONText.encode(PruneMark(batch: uuid))
            for name in names { try writeMark(bytes, name.description) }
            try reached(.marked)
            // A capture whose lock is not seen now sees the marks.
            let holders = try holders()
            let batch = PruneBatch(
                format: PruneBatch.format, uuid: uuid,
                marked: SystemFacts.utcText(lock?.keeperSeconds() ?? SystemFacts.unixSeconds()),
                holders: holders)
            try writeMark(try JSONText.encode(batch, pretty: true), PruneBatch.fileName(uuid))
            try reached(.batched)
            return holders
        } catch { throw .about(layout.marks, error) }
    }

    /// Not by way of the medium: a mark that is lost in a power cut is made again. On a full disk, an empty file has to
    /// do: captures go by its name, and a batch that cannot be read is not complete.
    private func writeMark(_ bytes: [UInt8], _ name: String) throws(ImageError) {
        let path = layout.marks.appending(name)
        let temporary = layout.temporary.appending("\(name).\(WriterToken.own)")
        do {
            let file = try OwnedDescriptor.open(
                temporary, .writeOnly, options: [.create, .truncate, .noFollow],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            do { _ = try file.raw.writeAll(bytes) } catch {
                let reason = error as? Errno ?? .ioError
                guard reason == .noSpace else {
                    try? Files.remove(temporary)
                    throw SystemCallError("write", temporary.string, reason)
                }
                try Files.resize(file.raw, temporary.string, to: 0)
            }
            try Files.rename(temporary, to: path)
        } catch { throw .about(path, error) }
    }
}
