// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemAccess

/// What distinguishes entries and images of the surveyed system from those of another one.
struct OwnKernels {
    /// Its machine id; `nil` if it has none yet.
    let machineID: String?
    /// The versions of the kernels whose modules it has.
    let versions: Set<String>
    /// The kernel files of the system by version, for kernel-install.
    let kernelFiles: [String: String]

    /// Upper bound on the versions that are looked at.
    private static let mostVersions = 64

    init(_ anchor: borrowing AnchoredFolder) {
        let id = anchor.text("/etc/machine-id")?.prefix { $0.isHexDigit }
        machineID = id?.count == 32 ? id?.lowercased() : nil
        var files: [String: String] = [:]
        let names = anchor.names(in: "/lib/modules").prefix(Self.mostVersions)
        for version in names where Self.isVersion(version) {
            files[version] = ["/lib/modules/\(version)/vmlinuz", "/boot/vmlinuz-\(version)"]
                .first { anchor.exists($0) }
        }
        versions = Set(names)
        kernelFiles = files
    }

    init(machineID: String? = nil, versions: Set<String>, kernelFiles: [String: String] = [:]) {
        self.machineID = machineID
        self.versions = versions
        self.kernelFiles = kernelFiles
    }

    /// Whether a folder's name may be an argument of a program: it comes from the disk.
    static func isVersion(_ name: String) -> Bool {
        name.first?.isNumber == true && name.utf8.count <= 128
            && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._+~-".contains($0)) }
    }

    /// Whether an entry is the system's; `nil` if neither its id nor its version says so.
    func isOwn(_ entry: LoaderEntry) -> Bool? {
        if let id = entry.machineID, let machineID { return id == machineID }
        if let version = entry.version, versions.contains(version) { return true }
        guard let kernel = entry.kernel else { return nil }
        let parts = kernel.split(separator: "/").map(String.init)
        if let machineID, parts.contains(machineID) { return true }
        let isKnown = versions.contains { version in parts.contains(version) || kernel.hasSuffix("-\(version)") }
        return isKnown ? true : nil
    }

    /// The version of an entry that kernel-install could write again.
    func version(of entry: LoaderEntry) -> String? { Self.version(of: entry, among: Set(kernelFiles.keys)) }

    /// The version of an entry's kernel, whether or not the system has its file.
    func knownVersion(of entry: LoaderEntry) -> String? { Self.version(of: entry, among: versions) }

    /// One version can be the start of another: an exact match wins, else the longest one.
    private static func version(of entry: LoaderEntry, among versions: Set<String>) -> String? {
        if let version = entry.version, versions.contains(version) { return version }
        let found = versions.filter { version in
            entry.kernel?.contains(version) == true || entry.name.hasSuffix("-\(version)")
        }
        return found.max { ($0.utf8.count, $0) < ($1.utf8.count, $1) }
    }
}
