// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A shell script that works inside a mounted filesystem.
///
/// It is mounted for all to see, and not in a mount namespace of its own: a new namespace has a copy of every mount there
/// is, and until that goes too, what other tests unmount meanwhile stays in use, and not cleanly unmounted.
package enum MountedScript {
    /// Mounts, runs `script` in the root folder of the filesystem, and unmounts whatever happens (where somebody else has
    /// something open there: lazily, and that is a failure).
    /// - Parameters:
    ///   - mount: the shell command that mounts `$node` on `$place`.
    ///   - node: a block device, or an image that `mount` can make a loop device of.
    ///   - place: a folder to mount it on; made where it is missing.
    ///   - arguments: `$1` and so on of the script.
    ///   - mayFail: whether the script goes on behind a command that fails, and its own status does not count.
    package static func run(
        mount: String, _ node: String, on place: FilePath, _ script: String, arguments: [String] = [],
        mayFail: Bool = false
    ) throws -> ChildProcess.Output {
        try Files.makeFolders(place)
        let whole = """
            place=$1 node=$2; shift 2
            \(mount)
            trap 'status=$?; cd /; umount "$place" || { umount -l "$place"; status=1; }; exit $status' EXIT
            cd "$place"
            \(mayFail ? "set +e" : "")
            \(script)
            \(mayFail ? "true" : "")
            """
        return try ChildProcess.run(
            ["sh", "-euc", whole, "sh", place.string, node] + arguments, timeoutSeconds: 180)
    }
}
