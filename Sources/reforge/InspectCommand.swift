// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import ByteParsing
import Codecs
import DiskModel
import ImageFiles
import ImageModel
import Imaging
import JobModel
import LinuxSystem
import Operations
import Repository
import SystemPackage

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Shows what a disk, an image or a snapshot holds. Writes nothing.",
        discussion: """
            Examples:

              reforge inspect /dev/sda
              reforge inspect laptop.img.zst --json

            JSON fields: schema (1), kind (disk or image), identity {path, kernelName, model, serial, wwn, transport, \
            diskSequence, pathByPlace}, geometry {byteCount, logicalSectorSize, physicalSectorSize, alignmentOffset, \
            optimalIOSize}, table {kind, unknownKindName, condition, diskGUID}, volumes [{partition, name, typeGUID, \
            type, guid, attributes, offset, byteCount, filesystem {kind, kindName, uuid, label, byteCount, blockSize, \
            isClean, features, mapSource, wholeReason, remarks, inner [{name, byteCount, filesystem, usedByteCount, \
            places}]}, usedByteCount}], boot {biosBootCode, biosCoreImageFound, efiLoaders}, warnings, \
            interruptedRestore {imageUUID, position, byteCount, partition}; for an image also imageID, imageUUID, \
            started, ended, toolVersion, level, chunkByteCount, allSectors, mountedReadWrite, note, tags, host, \
            unreadable, imageByteCount (not of a snapshot).
            """)

    @Argument(help: "A block device, a raw image file, a Reforge image, or a snapshot.") var disk: String
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Trust allocation maps without comparing them with the blocks that files use.") var trustMaps = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var luksOptions: LUKSOptions

    func run() throws {
        try CommandRun.run(json: json) {
            let report: InspectReport
            if try isCapture() {
                guard luksOptions.luksKeyFile.isEmpty else {
                    throw JobFailure(.usage, "--luks-key-file opens what is on a disk, not what is in an image")
                }
                report = InspectReport(try OpenedImage.open(disk, KeyRing(keyOptions, Console.events)))
            } else {
                let unlocker = try luksOptions.keys.unlocker()
                let opened = try OpenedDisk(disk, .readOnly, sectorSize: sectorSize?.rawValue)
                let survey = try opened.survey(trustMaps: trustMaps, unlocker: unlocker)
                var found = InspectReport(survey)
                if let known = try opened.knownImage {
                    found.warnings.append(
                        "\(disk) is \(known.name), not a disk: what is shown is how its bytes look as one")
                }
                found.interruptedRestore = try InterruptedRestore(on: opened.device, survey.volumes)
                report = found
                try unlocker?.check(disk)
            }
            if json { try Console.json(report) } else { try Console.result(report.text) }
            return .done
        }
    }

    /// Whether it is an image of ours or a snapshot; a device never is one, and a raw image is looked at as a disk.
    private func isCapture() throws -> Bool {
        if case .snapshot = try ImageAddress.parse(disk, .thisMachine) { return true }
        let path = FilePath(disk)
        let status: Stat
        do { status = try Stat(path) } catch { throw SystemCallError("open", path.string, error) }
        guard status.type == .regular else { return false }
        switch try ImageFileKind.detect(path) {
        case .image, .encryptedImage, .xzImage, .foreignXZ, .foreignZstd: return true
        case .foreignRaw, .unknown: return false
        }
    }
}
