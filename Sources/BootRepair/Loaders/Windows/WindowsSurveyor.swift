// SPDX-License-Identifier: GPL-3.0-or-later
import ByteParsing
import DiskModel
import Filesystems
import SystemAccess
import WindowsFiles

/// Looks for Windows on a disk: its boot configuration stores, its systems and their storage drivers. Reads only.
struct WindowsSurveyor {
    /// Folders of Windows that are looked for, at most.
    private static let rootLimit = 8
    /// A hive is trusted only if it is known that no log is newer.
    private static let logLimit = 64 << 20

    private var volumes: WindowsVolumes
    private var finding = WindowsFinding()
    private var roots = ["\\Windows"]

    /// A hive that may be changed, with its place.
    private struct OpenedHive {
        let hive: RegistryHive
        let file: PlacedFile
        let stamp: [PlacedBytes]
    }

    /// Why a hive must not be changed, as a sentence part.
    private struct Refusal: Error { let reason: String }

    init(_ disk: any BlockReader, _ volumes: [BootVolume]) { self.volumes = WindowsVolumes(disk, volumes) }

    /// `nil` if there is no Windows.
    mutating func survey() -> WindowsFinding? {
        for volume in volumes.volumes {
            let paths = volume.isFAT ? ["\\EFI\\Microsoft\\Boot\\BCD", "\\Boot\\BCD"] : ["\\Boot\\BCD"]
            for path in paths where volumes.holds(path, volume) == true { readStore(path, on: volume) }
        }
        for volume in volumes.volumes where volume.kind == .ntfs { readSystems(on: volume) }
        return finding == WindowsFinding() ? nil : finding
    }

    // MARK: Stores

    private mutating func readStore(_ path: String, on volume: BootVolume) {
        var store = WindowsFinding.Store(partition: volume.number, path: path)
        do throws(Refusal) {
            let opened = try open(path, on: volume, limit: BCDStore.largestByteCount)
            store.stamp = opened.stamp
            let contents = try Self.refusing { () throws(WindowsFileError) in try BCDStore(opened.hive) }
            for object in contents.objects {
                for element in object.elements where element.isDevice {
                    guard let made = try self.element(element, of: object, opened.file, store, volume) else { continue }
                    store.elements.append(made)
                }
                if object.type == BCDStore.ObjectType.loader, let text = object.text(BCDStore.ElementType.systemRoot) {
                    addRoot(text)
                }
                if object.identifier.description == BCDStore.bootManager,
                    let text = object.text(BCDStore.ElementType.defaultObject)
                {
                    store.defaultObject = GUID(text.filter { $0 != "{" && $0 != "}" })
                }
            }
        } catch { store.problem = error.reason }
        finding.stores.append(store)
    }

    /// One folder has one spelling here: its hive must not be changed twice.
    private mutating func addRoot(_ text: String) {
        guard text.hasPrefix("\\"), text.utf8.count < 256 else { return }
        let root = text.split(separator: "\\").map { "\\\($0)" }.joined()
        guard !root.isEmpty, roots.count < Self.rootLimit,
            !roots.contains(where: { $0.lowercased() == root.lowercased() })
        else { return }
        roots.append(root)
    }

    /// A device element that names a partition; `nil` for other kinds.
    private mutating func element(
        _ element: BCDStore.Element, of object: BCDStore.Object, _ file: PlacedFile, _ store: WindowsFinding.Store,
        _ volume: BootVolume
    ) throws(Refusal) -> WindowsFinding.Element? {
        let device: BCDDevice
        do throws(ParsingError) { device = try BCDDevice(element.data) } catch {
            // Left alone, as the kinds that are not known.
            return nil
        }
        guard case .partition(let partition) = device, let range = element.ranges.first, element.ranges.count == 1,
            let data = WindowsVolumes.placed(range, of: file, on: volume)
        else { return nil }
        var made = WindowsFinding.Element(
            object: object.identifier, objectType: object.type, type: element.type, names: partition, data: data)
        if object.type == BCDStore.ObjectType.bootManager, element.type == BCDStore.ElementType.device {
            // The boot manager reads the store from the partition that it was started from.
            made.holders = [store.partition]
        } else if let path = Self.file(of: element.type, in: object) {
            made.file = path
            made.holders = volumes.holders(of: path)
        }
        return made
    }

    /// A file that must be on the partition of a device element.
    private static func file(of type: UInt32, in object: BCDStore.Object) -> String? {
        let path: String?
        switch type {
        case BCDStore.ElementType.device: path = object.text(BCDStore.ElementType.path)
        case BCDStore.ElementType.systemDevice where object.type == BCDStore.ObjectType.loader:
            path = object.text(BCDStore.ElementType.systemRoot).map { "\($0)\\System32\\config\\SYSTEM" }
        case BCDStore.ElementType.ramDiskDevice: path = object.text(BCDStore.ElementType.ramDiskPath)
        default: path = nil
        }
        guard let path, path.hasPrefix("\\"), path.utf8.count < 1024, path.utf8.allSatisfy({ $0 < 0x80 }) else {
            return nil
        }
        return path
    }

    // MARK: Systems

    private mutating func readSystems(on volume: BootVolume) {
        for root in roots {
            guard let isThere = volumes.holds("\(root)\\System32\\config\\SYSTEM", volume) else {
                let reason = volumes.problems[volume.number] ?? "its folders cannot be read"
                finding.unread.append(WindowsFinding.Unread(partition: volume.number, reason: reason))
                return
            }
            guard isThere else { continue }
            var system = WindowsFinding.System(partition: volume.number, root: root)
            do throws(Refusal) {
                let opened = try open(
                    "\(root)\\System32\\config\\SYSTEM", on: volume, limit: RegistryHive.largestByteCount)
                system.stamp = opened.stamp
                let services = try Self.refusing { () throws(WindowsFileError) in
                    try ControlSets(opened.hive).drivers(StorageDrivers.allServices, systemRoot: root)
                }
                for service in services { system.drivers.append(driver(service, opened.file, volume)) }
            } catch { system.problem = error.reason }
            finding.systems.append(system)
        }
    }

    private mutating func driver(
        _ service: DriverService, _ file: PlacedFile, _ volume: BootVolume
    ) -> WindowsFinding.Driver {
        var words: [WindowsFinding.Word]? = []
        for word in service.wordsToClear ?? [] {
            guard let data = WindowsVolumes.placed(word.offset..<word.offset + 4, of: file, on: volume) else {
                words = nil
                break
            }
            words?.append(WindowsFinding.Word(value: word.value, data: data))
        }
        return WindowsFinding.Driver(
            name: service.name, controlSet: service.controlSet, startsAtBoot: service.startsAtBoot,
            path: service.path, hasFile: volumes.holds(service.path, volume) == true,
            words: service.wordsToClear == nil ? nil : words)
    }

    // MARK: Hives

    /// Opens a hive that may be changed in place.
    private mutating func open(_ path: String, on volume: BootVolume, limit: Int) throws(Refusal) -> OpenedHive {
        let found: (file: PlacedFile, obstacle: String?)?
        do throws(FilesystemError) { found = try volumes.file(path, on: volume, limit: limit) } catch {
            throw Refusal(reason: error.description)
        }
        guard let (file, obstacle) = found else { throw Refusal(reason: "it cannot be found again") }
        if let obstacle { throw Refusal(reason: obstacle) }
        let hive = try Self.refusing { () throws(WindowsFileError) in try RegistryHive(file.bytes) }
        for ending in [".LOG", ".LOG1", ".LOG2"] {
            let log: [UInt8]
            do throws(FilesystemError) { log = try volumes.log(path + ending, on: volume, limit: Self.logLimit) } catch
            {
                throw Refusal(reason: "its log \(path + ending) cannot be read: \(error)")
            }
            if let problem = HiveLog.problem(log, named: path + ending, of: hive) { throw Refusal(reason: problem) }
        }
        guard let stamp = WindowsVolumes.placed(0..<RegistryHive.stampByteCount, of: file, on: volume) else {
            throw Refusal(reason: "it is too short")
        }
        return OpenedHive(hive: hive, file: file, stamp: stamp)
    }

    private static func refusing<Value>(_ body: () throws(WindowsFileError) -> Value) throws(Refusal) -> Value {
        do { return try body() } catch { throw Refusal(reason: error.description) }
    }
}
