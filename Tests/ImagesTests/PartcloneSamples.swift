// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage
import TestSupport

/// Images that partclone itself makes of small filesystems, by Samples/make-samples.sh: made once in a test run.
enum PartcloneSamples {
    private static let tools = [
        "partclone.ext4", "partclone.restore", "mke2fs", "mkfs.fat", "mcopy", "mkntfs", "ntfscp", "mkfs.btrfs",
        "mkfs.exfat", "gzip", "zstd", "xz", "python3",
    ]
    static let areThere = tools.allSatisfy(ChildProcess.canFind)

    private static let made: Result<ScratchFolder, any Error> = Result {
        let scratch = try ScratchFolder()
        let script = FilePath(#filePath).removingLastComponent().appending("Samples")
        try ToolFile.run(["bash", script.appending("make-samples.sh").string, scratch.path.string])
        for (name, wide) in [("v1", []), ("v1wide", ["8"])] {
            try ToolFile.run(
                [
                    "python3", script.appending("make-v1.py").string, scratch.path.appending("ext1k.ptcl").string,
                    scratch.path.appending("ext1k.\(name)").string,
                ] + wide)
        }
        // Further compressions, as far as their programs are here.
        for (program, arguments, suffix) in [
            ("bzip2", ["-k", "-c"], "bz2"), ("lz4", ["-c"], "lz4"), ("lzop", ["-c"], "lzo"),
            ("lzip", ["-k", "-c"], "lz"),
            ("xz", ["--format=lzma", "-k", "-c"], "lzma"),
        ] where ChildProcess.canFind(program) {
            let command = ([program] + arguments).joined(separator: " ")
            try ToolFile.run(["sh", "-c", "cd '\(scratch.path)' && \(command) ext1k.ptcl > ext1k.ptcl.\(suffix)"])
        }
        return scratch
    }

    static func folder() throws -> FilePath { try made.get().path }

    /// The samples: the file given, and the image from which partclone restores the same.
    static func all() throws -> [(name: String, plain: String)] {
        let names = Set(Files.names(in: try folder()))
        var samples = [
            "ext4", "ext1k", "fat", "ntfs", "xfs", "btrfs", "exfat", "ext4.a0", "ext4.k7", "ext4.k7K", "ext4.z10",
        ]
        .map { ("\($0).ptcl", "\($0).ptcl") }
        samples += [
            ("sda2.ext4-ptcl-img.gz.aa", "ext4.z10.ptcl"), ("sda3.ext4-ptcl-img.zst", "ext4.z10.ptcl"),
            ("sda5.ntfs-ptcl-img.zst.aa", "ntfs.ptcl"), ("sda1.vfat-ptcl-img.xz", "fat.ptcl"),
            ("sda4.btrfs-ptcl-img.uncomp", "btrfs.ptcl"), ("ext1k.v1", "ext1k.ptcl"),
        ]
        samples += ["bz2", "lz4", "lzo", "lz", "lzma"].map { ("ext1k.ptcl.\($0)", "ext1k.ptcl") }
        return samples.filter { names.contains($0.0) }.map { (name: $0.0, plain: $0.1) }
    }
}
