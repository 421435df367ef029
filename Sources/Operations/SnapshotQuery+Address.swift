// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import ObjectStore
import Repository
import SystemPackage

extension ImageAddress.Lookup {
    /// A lookup in this machine's files and clock.
    package static let thisMachine = ImageAddress.Lookup(
        place: { path in
            guard let status = (try? Files.status(FilePath(path))) ?? nil else { return .nothing }
            return !status.isFolder ? .file : LocalStore.isRepository(FilePath(path)) ? .repository : .folder
        }, isTime: { TimeText($0) != nil }, isStore: { !Stores.isFolder($0) })
}

extension SnapshotQuery {
    /// The query of an address among a repository's snapshots.
    package init(_ address: SnapshotAddress) {
        let choice: Choice =
            switch address.choice {
            case .repository: .repository
            case .id(let prefix): .id(prefix: prefix)
            case .latest: .latest
            case .time(let text): .time(Self.unixSeconds(text))
            }
        self.init(
            repository: address.repository, host: address.host, disk: address.disk, choice: choice, text: address.text,
            forms: SnapshotAddress.forms)
    }

    /// A date means its last second, so that the newest snapshot of that day is found.
    private static func unixSeconds(_ text: String) -> Int64 {
        guard let time = TimeText(text) else { return .min }
        return time.isDate ? TimeText("\(text)T23:59:59")?.unixSeconds ?? time.unixSeconds : time.unixSeconds
    }
}
