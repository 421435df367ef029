// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel
import Operations

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
            unreadable, imageByteCount (not for a snapshot).
            """)

    @Argument(help: "A block device, a disk in a file, a Reforge image, or a snapshot.") var disk: String
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Trust allocation maps without comparing them with the blocks that files use.") var trustMaps = false
    @Option(help: "The logical sector size of a raw image file: 512 or 4096.") var sectorSize: SectorSize?
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var luksOptions: LUKSOptions
    @OptionGroup var backingOptions: BackingOptions

    func run() throws {
        var job = InspectJob(disk: disk)
        (job.trustsMaps, job.sectorSize, job.luksKeyFiles) = (trustMaps, sectorSize?.rawValue, luksOptions.luksKeyFile)
        job.allowsBacking = backingOptions.allowBacking
        try CommandRun.run(json: json) { cancellation in
            let keys = KeyRing(keyOptions, Console.events, cancellation)
            let report = try InspectOperation(job, keys: keys, events: Console.events).run()
            try Console.result(report, json: json, lines: [report.text])
            return .done
        }
    }
}
