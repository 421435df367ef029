// SPDX-License-Identifier: GPL-3.0-or-later
import DiskModel
import LinuxSystem
import SystemPackage

extension NBDServer {
    /// Seconds for the handshake with this process's own server.
    private static let handshakeSeconds = 30.0

    /// Makes the served disk a disk of this kernel, read-only: for the medium, whose kernel reads disks anyway.
    /// - Parameter disk: the disk that is served.
    package func kernelDisk(of disk: any ServedDisk) throws(NBDError) -> NetworkBlockDevice {
        let (socket, byteCount) = try kernelConnection()
        // The kernel has taken the socket over when this one is closed.
        defer { withExtendedLifetime(socket) {} }
        do throws(SystemCallError) {
            return try NetworkBlockDevice(
                socket.descriptor, byteCount: byteCount, sectorSize: disk.logicalSectorSize)
        } catch { throw .system(error) }
    }

    /// A connection past its handshake. Linux's client knows neither structured replies nor the handshake.
    func kernelConnection() throws(NBDError) -> (socket: NBDSocket, byteCount: UInt64) {
        guard case .unix(let path) = address else { throw .invalid("it has no Unix socket") }
        let socket: NBDSocket
        do throws(SystemCallError) { socket = NBDSocket(try Sockets.connect(to: path), path.string) } catch {
            throw .system(error)
        }
        socket.limit(seconds: Self.handshakeSeconds)
        let options = NBDClientOptions(socket)
        try options.greet()
        return (socket, try options.open(export: "").byteCount)
    }
}
