// SPDX-License-Identifier: GPL-3.0-or-later
import CLinuxShims
import Glibc
import Synchronization
import SystemPackage

/// The pending calls on one device, file or pipe, recorded for `StallWatch`.
///
/// Recording a call takes no lock: a clock that the kernel maps into the process, and two atomic stores.
package final class PendingCalls: @unchecked Sendable {
    // @unchecked: the pointer never changes, and what it points to is atomic.

    /// The kind of call.
    package enum Kind: UInt64, Sendable {
        /// Reads bytes.
        case read = 1
        /// Writes bytes.
        case write
        /// Flushes to the medium.
        case flush
        /// Discards (trims).
        case discard
        /// Opens or creates.
        case open
        /// Closes, renames, links or removes.
        case change
    }

    /// A call that has not returned.
    struct Call: Hashable {
        var name: String
        var kind: Kind
        /// When it began, in milliseconds of the monotonic clock.
        var start: UInt64
    }

    /// Its name in messages.
    package let name: String
    /// The filesystem or device.
    private let deviceNumber: UInt64?
    /// The disks it depends on.
    private let disks: [DiskPresence]
    /// Start times in milliseconds, each shifted left by the bits of the kind; 0 in a free slot.
    private let slots = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: PendingCalls.slotCount)
    /// Further simultaneous calls are not recorded: the recorded ones stand for them.
    private static let slotCount = 16

    private struct Registered {
        weak var calls: PendingCalls?
    }
    private static let all = Mutex<[ObjectIdentifier: Registered]>([:])
    /// The cancellations that are requested if a disk is gone.
    private static let told = Mutex<[Cancellation]>([])
    /// Closing, which has no name any more.
    static let closing = PendingCalls("a file or disk that is closed", deviceNumber: nil, disks: [])

    /// Calls on an opened device, file or pipe.
    package convenience init(_ name: String, on descriptor: FileDescriptor) {
        let status = try? Stat(descriptor)
        let isDevice = status?.type == .blockSpecial
        guard let status, isDevice || status.type == .regular || status.type == .directory else {
            // A pipe or terminal depends on no disk.
            self.init(name, deviceNumber: nil, disks: [])
            return
        }
        let number = UInt64((isDevice ? status.specialDeviceID : status.deviceID).rawValue)
        // Another file of the same filesystem has the disks already.
        let known = isDevice ? nil : Self.living().first { $0.deviceNumber == number }?.disks
        self.init(name, deviceNumber: number, disks: known ?? DiskPresence.disks(below: number))
    }

    /// Calls on a path that is not open yet.
    convenience init(path: String) { self.init(path, deviceNumber: nil, disks: []) }

    private init(_ name: String, deviceNumber: UInt64?, disks: [DiskPresence]) {
        self.name = name
        self.deviceNumber = deviceNumber
        self.disks = disks
        for index in 0..<Self.slotCount { (slots + index).initialize(to: Atomic(0)) }
        Self.all.withLock { $0[ObjectIdentifier(self)] = Registered(calls: self) }
    }

    deinit {
        Self.all.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(self)) }
        slots.deinitialize(count: Self.slotCount)
        slots.deallocate()
    }

    /// Makes a call, registered while it lasts. If it fails because a disk is gone, the loss is noted (`noteLoss`).
    package func during<Result: ~Copyable, Failure: Error>(
        _ kind: Kind, _ call: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let slot = begin(kind)
        defer { if let slot { slots[slot].store(0, ordering: .relaxed) } }
        do throws(Failure) { return try call() } catch {
            noteLoss()
            throw error
        }
    }

    private func begin(_ kind: Kind) -> Int? {
        let value = SystemFacts.monotonicMilliseconds() << 3 | kind.rawValue
        for index in 0..<Self.slotCount
        where slots[index].compareExchange(expected: 0, desired: value, ordering: .relaxed).exchanged {
            return index
        }
        return nil
    }

    /// Looks whether its disk is gone, and asks for the end of the work that is watched.
    func noteLoss() {
        guard let lost = disks.first(where: \.isGone) else { return }
        let node = "/dev/\(lost.name)"
        let sentence = name.hasPrefix(node) ? "\(name) is gone" : "\(node) is gone, on which \(name) lies"
        for cancellation in Self.told.withLock({ $0 }) { cancellation.noteLoss(sentence) }
    }

    /// Has `cancellation` told of disks that are gone.
    package static func tellLosses(to cancellation: Cancellation) { told.withLock { $0.append(cancellation) } }

    /// Ends that.
    package static func endTelling(_ cancellation: Cancellation) {
        told.withLock { list in
            guard let index = list.firstIndex(where: { $0 === cancellation }) else { return }
            list.remove(at: index)
        }
    }

    /// The disks below that are present, with their activity (`DiskDirectory.activity`).
    var activity: [String: UInt64] {
        Dictionary(disks.compactMap { disk in disk.activity.map { (disk.name, $0) } }) { first, _ in first }
    }

    /// The living instances of this process. They are released outside of the lock, because deinit takes it.
    static func living() -> [PendingCalls] { all.withLock { $0.values.compactMap(\.calls) } }

    /// The calls that have not returned.
    var now: [Call] {
        (0..<Self.slotCount).compactMap { index in
            let value = slots[index].load(ordering: .relaxed)
            return Kind(rawValue: value & 7).map { Call(name: name, kind: $0, start: value >> 3) }
        }
    }
}
