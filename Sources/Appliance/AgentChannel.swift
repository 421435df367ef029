// SPDX-License-Identifier: GPL-3.0-or-later
import LinuxSystem
import SystemPackage

/// A stream of frames in both directions: a socket on the host, a port of virtio-serial in the machine.
///
/// Flow control is the stream's: a sender waits while its peer does not read.
package final class AgentChannel {
    private let descriptor: FileDescriptor
    private let cancellation: Cancellation
    private var buffer: [UInt8] = []
    private var position = 0

    /// Takes over an open descriptor.
    package init(_ descriptor: consuming OwnedDescriptor, cancellation: Cancellation) {
        self.descriptor = descriptor.release()
        self.cancellation = cancellation
    }

    deinit { try? descriptor.close() }

    /// - Throws: before anything is sent, for a frame that the other side would not accept.
    package func send(_ frame: AgentFrame) throws(ApplianceError) {
        guard frame.payload.count <= AgentFrame.largestPayload else {
            throw .refused(
                "a message of \(frame.payload.count) bytes is longer than the appliance accepts (1 MiB): give fewer or "
                    + "shorter keys (--luks-key-file)")
        }
        do { try descriptor.sendAll(frame.bytes) } catch {
            throw .system(SystemCallError("write to", "the appliance", error))
        }
    }

    /// The next frame.
    /// - Parameter seconds: how long it may take to begin; `nil` for no limit.
    /// - Returns: `nil` at the end of the stream.
    package func receive(withinSeconds seconds: Double? = nil) throws(ApplianceError) -> AgentFrame? {
        let deadline = seconds.map { SystemFacts.monotonicSeconds() + $0 }
        guard let head = try take(AgentFrame.headerByteCount, deadline) else { return nil }
        let (kind, count) = try AgentFrame.header(head)
        guard let payload = try take(count, deadline) else { return nil }
        return AgentFrame(kind: kind, payload: payload)
    }

    /// Ends the stream in both directions; a peer that waits for a frame sees its end.
    ///
    /// The corresponding C function is `shutdown`.
    package func end() { descriptor.endStream() }

    private func take(_ count: Int, _ deadline: Double?) throws(ApplianceError) -> [UInt8]? {
        while buffer.count - position < count {
            guard try fill(deadline) else { return nil }
        }
        defer {
            position += count
            // The front is dropped rarely: moving the rest for each small frame would be slow.
            if position > 1 << 20 || position == buffer.count {
                buffer.removeFirst(position)
                position = 0
            }
        }
        return Array(buffer[position..<position + count])
    }

    private func fill(_ deadline: Double?) throws(ApplianceError) -> Bool {
        while true {
            if cancellation.isRequested { throw .cancelled }
            if let deadline, SystemFacts.monotonicSeconds() > deadline {
                throw .machine("the appliance does not answer (a damaged filesystem can stop its kernel)")
            }
            guard Polling.wait(for: [.init(descriptor)], seconds: 0.25).first?.isReadable == true else { continue }
            switch descriptor.readAvailable(into: &buffer, limit: 1 << 19) {
            case .moved: return true
            case .wouldBlock: SystemFacts.sleep(seconds: 0.01)
            case .ended: return false
            }
        }
    }
}
