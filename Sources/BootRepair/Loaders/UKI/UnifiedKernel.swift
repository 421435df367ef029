// SPDX-License-Identifier: GPL-3.0-or-later
import BootFiles
import Filesystems
import SystemAccess

/// A unified kernel image: an EFI program with kernel, initramfs and command line (uapi-group.org/specifications,
/// "Unified Kernel Image").
package struct UnifiedKernel: Codable, Equatable, Sendable {
    /// Its path with backslashes.
    package var path: String
    /// The partition that holds it.
    package var place: TreePlace
    /// The number of that partition.
    package var partition: Int
    /// Its length in bytes.
    package var byteCount: UInt64
    /// The kernel's version (`.uname`).
    package var version: String?
    /// ID and PRETTY_NAME of the system (`.osrel`).
    package var systemID: String?
    package var title: String?
    /// The kernel command line (`.cmdline`); `nil` if it has none of its own.
    package var commandLine: String?
    /// The references in it, in line 0.
    package var words: [DeviceWord] = []
    package var hasInitramfs = false
    /// Whether it has a signature, which Secure Boot may or may not accept.
    package var isSigned = false
    /// The reason it could not be read, as a sentence part.
    package var problem: String?
    /// Whether it is the surveyed system's; `nil` if that is unknown.
    package var isOwn: Bool?
    /// Its kernel and what its initramfs holds; `nil` if they were not looked at.
    package var contents: InstalledSystem.Kernel?

    /// The name of its file.
    package var name: String { path.split(separator: "\\").last.map(String.init) ?? path }

    /// Reads a file's sections, and nothing of its kernel.
    /// - Returns: `nil` if it is another EFI program, or none.
    init?(_ path: String, in partition: BootPartition) {
        self.path = path.split(whereSeparator: { $0 == "/" || $0 == "\\" }).reduce("") { "\($0)\\\($1)" }
        place = partition.place
        self.partition = partition.volume.number
        byteCount = 0
        do {
            let file = try FATFile(path, in: partition.fat)
            byteCount = file.byteCount
            let image = try PEImage(
                head: try file.read(at: 0, count: PEImage.headByteCount), byteCount: Int(clamping: file.byteCount))
            guard image.isUnifiedKernel else { return nil }
            take(image) { name in
                try? image.text(of: name) { (range) throws(BootFileError) in
                    do { return try file.read(at: UInt64(range.lowerBound), count: range.count) } catch {
                        throw .damaged(what: "\(error)")
                    }
                }
            }
        } catch {
            problem = "\(error)"
        }
    }

    /// - Parameter text: the text of a section.
    init(_ image: PEImage, path: String, place: TreePlace = .esp, partition: Int, text: (String) -> String?) {
        self.path = path
        self.place = place
        self.partition = partition
        byteCount = UInt64(image.byteCount)
        take(image, text)
    }

    private mutating func take(_ image: PEImage, _ text: (String) -> String?) {
        version = text(".uname")
        let release = InstalledSystemReader.variables(text(".osrel") ?? "")
        systemID = release["ID"]
        title = release["PRETTY_NAME"] ?? release["NAME"]
        commandLine = text(".cmdline")
        words = KernelArguments.words(in: commandLine ?? "", line: 0)
        hasInitramfs = image.section(".initrd").map { !$0.range.isEmpty } ?? false
        isSigned = image.isSigned
    }
}
