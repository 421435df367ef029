// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel
import Operations

/// Not a `MountingCommand`: other programs must see the mount.
struct MountCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount",
        abstract: "Shows an image, a snapshot or a disk as a raw disk in a file, until Ctrl-C.",
        discussion: """
            The file DIR/\(MountReport.fileName) has the bytes of the captured disk, read-only. It needs no root; only the user \
            who runs it can read it. It ends with Ctrl-C, SIGTERM, or `umount DIR/\(MountReport.fileName)`.
            Its path is the first line of the output; the partitions and how to mount them follow.

            Examples:

              mkdir disk && reforge mount laptop.img.zst disk
              reforge mount repo@web1/latest disk

            Needs qemu-storage-daemon and FUSE (Debian packages qemu-utils, qemu-system-common, fuse3).

            JSON fields: schema (1), image, imageID, path, byteCount, sectorSize, partitions [{number, offset, \
            byteCount, filesystem, label, command}].
            """)

    @Argument(help: "An image, a snapshot (REPO@latest, REPO@HOST/latest, REPO@ID, REPO@TIME), or a disk.")
    var image: String
    @Argument(help: "An empty folder.") var dir: String
    @Flag(help: "Print one JSON object once the disk can be read.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func run() throws {
        var job = MountJob(image: image, folder: dir)
        job.allowsBacking = backingOptions.allowBacking
        try MountPresenter(job: job, json: json).run(keyOptions, eventOptions.sink("mount"))
    }
}
