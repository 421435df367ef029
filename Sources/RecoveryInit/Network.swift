// SPDX-License-Identifier: GPL-3.0-or-later
import JobModel
import LinuxSystem
import SystemPackage

/// The wired network, brought up by DHCP when something needs it.
struct Network {
    private let say: (String) -> Void
    /// The time to detect a cable: autonegotiation of gigabit links takes 3 s and more, spanning tree more.
    private let carrierSeconds = 12.0

    init(say: @escaping (String) -> Void) { self.say = say }

    /// The wired interfaces: Ethernet (ARPHRD_ETHER, 1) that is neither wireless nor virtual.
    static func wiredInterfaces(_ folder: FilePath = "/sys/class/net") -> [String] {
        Files.names(in: folder).filter { name in
            let place = folder.appending(name)
            return Files.text(place.appending("type")) == "1" && Files.exists(place.appending("device"))
                && !Files.exists(place.appending("wireless")) && !Files.exists(place.appending("phy80211"))
        }
    }

    /// Whether /proc/net/route has a route: a line with destination 0.0.0.0 or any other network.
    static func hasRoute(_ text: String) -> Bool {
        text.split(separator: "\n").dropFirst().contains { line in
            let fields = line.split(whereSeparator: \.isWhitespace)
            return fields.count > 3 && fields[0] != "lo" && UInt32(fields[3], radix: 16).map { $0 & 1 == 1 } == true
        }
    }

    /// Brings up every wired interface with a cable.
    /// - Throws: status 74 if none got an address.
    func bringUp() throws(JobFailure) {
        _ = try? ChildProcess.run(["ip", "link", "set", "lo", "up"], timeoutSeconds: 10)
        if Self.hasRoute(Files.text("/proc/net/route") ?? "") { return }
        let interfaces = waitForInterfaces()
        guard !interfaces.isEmpty else {
            throw JobFailure(.ioError, "This kernel found no wired network interface.")
        }
        say("Bringing up the network (DHCP): \(interfaces.joined(separator: ", "))")
        for name in interfaces { _ = try? ChildProcess.run(["ip", "link", "set", name, "up"], timeoutSeconds: 10) }
        let connected = waitForCarrier(interfaces)
        guard !connected.isEmpty else {
            throw JobFailure(
                .ioError, "No cable is connected (\(interfaces.joined(separator: ", ")) have no link).")
        }
        // The actual addresses are checked, independent of the client's exit status.
        let answered = askForAddresses(connected).filter { address(of: $0) != nil }
        guard !answered.isEmpty else {
            throw JobFailure(
                .ioError, "No DHCP server answered on \(connected.joined(separator: ", ")).")
        }
        for name in answered { say("\(name) is up: \(address(of: name) ?? "")") }
    }

    /// A network card may need seconds for its driver and firmware.
    private func waitForInterfaces() -> [String] {
        let deadline = SystemFacts.monotonicSeconds() + 5
        while true {
            let interfaces = Self.wiredInterfaces()
            if !interfaces.isEmpty || SystemFacts.monotonicSeconds() > deadline { return interfaces }
            SystemFacts.sleep(seconds: 0.2)
        }
    }

    private func waitForCarrier(_ interfaces: [String]) -> [String] {
        let start = SystemFacts.monotonicSeconds()
        var firstSeen: Double?
        while true {
            let connected = interfaces.filter { Files.text(FilePath("/sys/class/net/\($0)/carrier")) == "1" }
            let now = SystemFacts.monotonicSeconds()
            if !connected.isEmpty, firstSeen == nil { firstSeen = now }
            // Once one interface has a link, the others get only a short time.
            if connected.count == interfaces.count || now - start > carrierSeconds
                || firstSeen.map({ now - $0 > 3 }) ?? false
            {
                return connected
            }
            SystemFacts.sleep(seconds: 0.1)
        }
    }

    /// Runs DHCP clients on all interfaces concurrently; returns the interfaces that got an address.
    private func askForAddresses(_ interfaces: [String]) -> [String] {
        var waiting: [(name: String, processID: Int32)] = []
        for name in interfaces {
            // -n: gives up; -q: ends once it has an address; -f: in the foreground. Debian's busybox looks for its
            // script in /etc/udhcpc by default.
            if let child = try? ChildProcess(
                [
                    "udhcpc", "-f", "-n", "-q", "-t", "6", "-T", "3", "-A", "1", "-s",
                    "/usr/share/udhcpc/default.script", "-i", name,
                ], newSession: true)
            {
                waiting.append((name, child.processID))
            }
        }
        let deadline = SystemFacts.monotonicSeconds() + 40
        var answered: [String] = []
        while !waiting.isEmpty {
            switch Processes.reap() {
            case .child(let id, let ending):
                if let index = waiting.firstIndex(where: { $0.processID == id }) {
                    let entry = waiting.remove(at: index)
                    if ending == .exited(0) { answered.append(entry.name) }
                }
            case .noneLeft: waiting = []
            case .noneEnded:
                if SystemFacts.monotonicSeconds() > deadline {
                    for entry in waiting { Processes.send(.kill, to: entry.processID) }
                }
                SystemFacts.sleep(seconds: 0.05)
            }
        }
        return answered.sorted()
    }

    private func address(of interface: String) -> String? {
        let output = try? ChildProcess.run(["ip", "-4", "-o", "addr", "show", "dev", interface], timeoutSeconds: 10)
        let words = (output?.text ?? "").split(whereSeparator: \.isWhitespace)
        guard let index = words.firstIndex(of: "inet"), index + 1 < words.count else { return nil }
        return String(words[index + 1])
    }
}
