// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel

/// A physical volume of LVM2 and its volume group.
struct LVMReader: Sendable {
    static let format = ContainerFormat(kindNames: ["LVM2_member"], open: open)

    let label: LVMLabel
    let group: LVMVolumeGroup
    /// This disk among the group's disks.
    let physicalVolume: LVMVolumeGroup.PhysicalVolume
    /// The names of all disks in the text.
    let diskNames: Set<String>

    static func open(_ volume: any BlockReader) throws(BlockIOError) -> Container? {
        let labels = try LVMLabel.find(volume)
        guard let first = labels.first else { return nil }
        var info = FilesystemInfo(kind: .lvm, kindName: "LVM2_member", mapSource: .whole)
        let label: LVMLabel
        do { label = try first.get() } catch { return .whole(info, because: error.description) }
        info.uuid = label.uuidText
        guard labels.count == 1 else { return .whole(info, because: "it has more than one LVM label") }
        do throws(FilesystemError) {
            let reader = try LVMReader(volume, label)
            info.features = ["vg:\(reader.group.name)"]
            return try reader.container(info, volumeByteCount: volume.byteCount)
        } catch {
            return .whole(info, because: try error.reasonForWhole())
        }
    }

    /// Reads the metadata areas of `label`: the one whose text has the highest sequence number counts.
    init(_ volume: any BlockReader, _ label: LVMLabel) throws(FilesystemError) {
        guard !label.metadataAreas.isEmpty else { throw .damaged("its volume group is described on other disks only") }
        var best: LVMVolumeGroup?
        var bestText: [UInt8] = []
        var problem: FilesystemError?
        var isIgnored = false
        for place in label.metadataAreas {
            do throws(FilesystemError) {
                let area = try LVMMetadataArea(volume, at: place)
                if area.hasPendingChange { throw .damaged("a change of its volume group was under way") }
                switch area.state {
                case .empty: break
                case .ignored: isIgnored = true
                case .text(let text):
                    let found = try LVMVolumeGroup(text: text)
                    if let best, best.id != found.id { throw .damaged("its metadata areas are of different groups") }
                    // One commit writes the same text to all areas.
                    if let best, best.sequenceNumber == found.sequenceNumber, bestText != text {
                        throw .damaged("its metadata areas contradict each other")
                    }
                    if best.map({ found.sequenceNumber > $0.sequenceNumber }) ?? true {
                        (best, bestText) = (found, text)
                    }
                }
            } catch {
                if case .io = error { throw error }
                problem = error
            }
        }
        guard let best else {
            throw problem
                ?? .damaged(
                    isIgnored
                        ? "its volume group is described on other disks only" : "it belongs to no volume group")
        }
        // With one area damaged, the other may be the older one.
        if let problem { throw problem }
        self.label = label
        group = best
        guard let own = best.physicalVolumes.first(where: { $0.id == label.id }) else {
            throw .damaged("its volume group \(best.name) does not name it")
        }
        physicalVolume = own
        diskNames = Set(best.physicalVolumes.map(\.name))
    }
}
