// SPDX-License-Identifier: GPL-3.0-or-later
import Codecs
import JobModel
import LinuxSystem
import SystemPackage

/// The rarely needed files of this build, in `extras.sqfs` beside the kernel: mounted only on demand. The initramfs
/// holds its SHA-256, so any way to it is as good as another.
struct MediumExtras {
    /// The mount point.
    static let folder: FilePath = "/run/reforge/extras"
    /// The path on the medium.
    static let path = "boot/extras.sqfs"
    /// The copy in memory: the medium can be removed, and what was checked is what is mounted.
    private static let copy: FilePath = "/run/reforge/extras.sqfs"
    /// Upper bound on the file, in bytes.
    private static let limit = 64 << 20

    /// The names of its files.
    let names: Set<String>
    private let hash: ContentHash

    /// The extras of this build; `nil` if it has none.
    init?() {
        guard let text = Files.text("/etc/reforge/extras.sha256"),
            let hash = ContentHash(hexadecimal: text.strippedSpaces)
        else { return nil }
        self.hash = hash
        names = Set((Files.text("/etc/reforge/extras.list") ?? "").split(separator: "\n").map(String.init))
    }

    /// The address on the kernel's command line (`reforge.extras=`), for machines started over the network.
    static func address(commandLine: String) -> String? {
        KernelCommandLine.parse(commandLine).last { $0.key == "reforge.extras" }?.value.flatMap { address in
            ["http://", "tftp://"].contains(where: address.hasPrefix) ? address : nil
        }
    }

    /// Mounts the extras, unless that was done before.
    /// - Returns: the folder with their files.
    /// - Throws: a sentence about each place that was tried.
    func open(_ medium: Medium, say: @escaping (String) -> Void) throws(JobFailure) -> FilePath {
        if MountEntry.current().contains(where: { $0.mountPoint == Self.folder.string }) { return Self.folder }
        let bytes = try bytes(medium, say)
        do {
            try Files.write(bytes, to: Self.copy)
            try Files.makeFolders(Self.folder)
            let loop = try LoopDevice(
                over: Self.copy, range: 0..<UInt64(bytes.count), readOnly: true)
            // The end of `loop` leaves the device to the mount, and removes it with that.
            try Mount.permanent(
                loop.path.string, on: Self.folder, type: "squashfs", options: [.readOnly, .noDevices])
            return Self.folder
        } catch {
            // It takes memory.
            try? Files.remove(Self.copy)
            throw JobFailure(.ioError, "extras.sqfs could not be mounted: \(error)")
        }
    }

    private func bytes(_ medium: Medium, _ say: @escaping (String) -> Void) throws(JobFailure) -> [UInt8] {
        var problems: [String] = []
        for volume in medium.carriers {
            guard let mounted = try? OpenedVolume(volume), let root = try? AnchoredFolder(mounted.folder),
                root.exists(Self.path)
            else { continue }
            do throws(SystemCallError) {
                let bytes = try root.read(Self.path, limit: Self.limit)
                if ContentHash(of: bytes) == hash { return bytes }
                problems.append("\(Self.path) on \(volume.path) is damaged, or of another build")
            } catch {
                problems.append("\(error)")
            }
        }
        if let address = Self.address(commandLine: Files.text("/proc/cmdline") ?? "") {
            do throws(JobFailure) {
                let bytes = try Self.fetch(address, say)
                if ContentHash(of: bytes) == hash { return bytes }
                problems.append("\(SecretFilter.filtered(address)) holds the file of another build")
            } catch {
                problems.append(error.message)
            }
        }
        throw JobFailure(
            .notFound,
            problems.isEmpty
                ? "extras.sqfs was not found: it is on the stick and the disc, and reforge.extras= names its address for a machine started over the network"
                : problems.joined(separator: "; "))
    }

    private static func fetch(
        _ address: String, _ say: @escaping (String) -> Void
    ) throws(JobFailure) -> [UInt8] {
        try Network(say: say).bringUp()
        let shown = SecretFilter.filtered(address)
        // In memory: a part of it, or another build's, must not stay.
        defer { try? Files.remove(copy) }
        do {
            let output = try ChildProcess.run(
                [
                    "curl", "--fail", "--silent", "--show-error", "--globoff", "--proto", "=http,tftp", "--noproxy",
                    "*", "--connect-timeout", "30", "--max-time", "300", "--max-filesize", "\(limit)", "--output",
                    copy.string, "--url", address,
                ], timeoutSeconds: 330)
            guard output.succeeded else {
                throw JobFailure(.ioError, "\(shown): curl could not fetch it (\(output.ending))")
            }
            return try Files.read(copy, limit: limit)
        } catch let error as JobFailure {
            throw error
        } catch {
            throw JobFailure(.ioError, "\(shown): \(error)")
        }
    }
}
