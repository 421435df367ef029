// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A shell script that works inside a mounted filesystem.
///
/// It is mounted visibly, and not in a separate mount namespace: a new namespace has a copy of every mount, and until
/// it is gone too, filesystems that other tests unmount meanwhile stay in use, and not cleanly unmounted.
package enum MountedScript {
    /// Mounts, runs `script` in the root folder of the filesystem, and unmounts in any case (lazily where a file in it
    /// is still open, which is a failure). Other tests that look at all mounts hold one for a moment.
    /// - Parameters:
    ///   - mount: the shell command that mounts `$node` on `$place`.
    ///   - node: a block device, or an image for which `mount` creates a loop device.
    ///   - place: a folder to mount it on; created if missing.
    ///   - arguments: `$1` and so on of the script.
    ///   - mayFail: whether the script continues after a failing command, and its own status does not count.
    package static func run(
        mount: String, _ node: String, on place: FilePath, _ script: String, arguments: [String] = [],
        mayFail: Bool = false
    ) throws -> ChildProcess.Output {
        try Files.makeFolders(place)
        let whole = """
            place=$1 node=$2; shift 2
            \(mount)
            leave() {
                tries=0
                while ! umount "$place" 2>/dev/null; do
                    tries=$((tries + 1))
                    [ $tries -lt 100 ] || { umount -l "$place"; return 1; }
                    sleep 0.1
                done
            }
            trap 'status=$?; cd /; leave || status=1; exit $status' EXIT
            cd "$place"
            \(mayFail ? "set +e" : "")
            \(script)
            \(mayFail ? "true" : "")
            """
        return try ChildProcess.run(
            ["sh", "-euc", whole, "sh", place.string, node] + arguments, timeoutSeconds: 180)
    }
}
