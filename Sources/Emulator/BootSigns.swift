// SPDX-License-Identifier: GPL-3.0-or-later

/// What lines of text say about a system that starts.
enum BootSigns {
    /// The prompt in a line that asks for a login: `NAME login:`, or `login:` alone as BSDs have it. Messages of the
    /// kernel may stand behind it, because a prompt ends no line.
    static func loginPrompt(_ line: String) -> String? {
        guard let range = line.firstRange(of: "login:") else { return nil }
        let name = line[..<range.lowerBound]
        guard name.utf8.count <= longestHostName + 1 else { return nil }
        if !name.isEmpty {
            guard name.last == " ", !name.dropLast().isEmpty,
                name.dropLast().allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) })
            else { return nil }
        }
        let rest = line[range.upperBound...].drop { $0 == " " }
        let isCursor = rest.allSatisfy { $0 == "_" || $0 == ScreenReader.unknown || $0 == " " }
        guard isCursor || isKernelMessage(rest) else { return nil }
        return String(line[..<range.upperBound])
    }

    /// The longest name in a prompt: a full domain name (RFC 1035 §2.3.4).
    private static let longestHostName = 255

    /// Whether a line is a message of the kernel with its time: `[   12.345678] …`.
    static func isKernelMessage(_ line: some StringProtocol) -> Bool {
        guard line.first == "[", let end = line.firstIndex(of: "]") else { return false }
        let parts = line[line.index(after: line.startIndex)..<end].split(
            separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[1].count == 6 else { return false }
        let seconds = parts[0].drop { $0 == " " }
        return !seconds.isEmpty && [seconds, parts[1]].allSatisfy { $0.allSatisfy { $0.isASCII && $0.isNumber } }
    }

    /// Whether only a system that has left its loader writes such a line.
    static func isOfSystem(_ line: String) -> Bool {
        isKernelMessage(line) || isCommandLineEcho(line) && line.contains("ommand line:")
            || [
                "Linux version ", "Loading, please wait", "systemd[1]:", "Starting systemd-udevd version", "[  OK  ]",
                "Starting version 2",
            ].contains(where: line.hasPrefix)
            // systemd; GRUB and the menus of live media welcome too.
            || line.hasPrefix("Welcome to ") && line.hasSuffix("!") && !line.contains("GRUB")
    }

    /// Whether a line repeats what the loader gave to the kernel, which may hold any text: the kernel itself, its
    /// complaint about unknown parameters, dracut.
    static func isCommandLineEcho(_ line: String) -> Bool {
        line.contains("BOOT_IMAGE=") || line.contains("ommand line")
    }

    /// Whether a line says that a unit is still waited for (systemd, src/core/manager.c: the second form from 248 on), or
    /// asks for what unlocks a disk (systemd-cryptsetup and cryptsetup; Debian's initramfs).
    static func isWait(_ line: String) -> Bool {
        [
            "A start job is running for", "A stop job is running for", "/start running (", "/stop running (",
            "nter passphrase for", "nter LUKS2 token PIN", "nter recovery key for", "Please unlock disk ",
        ].contains(where: line.contains)
    }

    /// Whether a line says that the system is going down.
    static func isShutdown(_ line: String) -> Bool {
        if line.contains("reboot: System halted") || line.contains("reboot: Power down") { return true }
        guard line.contains("Reached target ") else { return false }
        return ["hutdown", "ower-Off", "ower Off", "Reboot", "reboot.target", "halt.target", " Halt"].contains(
            where: line.contains)
    }

    /// What says, anywhere in a line, that the start has failed.
    private static let failures: [(text: String, reason: BootVerdict.Reason)] = [
        ("Kernel panic - not syncing", .kernelPanic),
        ("You are in emergency mode", .emergencyMode), ("You are in rescue mode", .emergencyMode),
        ("Give root password for maintenance", .emergencyMode), ("Press Enter for maintenance", .emergencyMode),
        ("Cannot open access to console, the root account is locked", .emergencyMode),
        ("Entering emergency mode. Exit the shell to continue", .emergencyMode),
        ("Gave up waiting for root file system device", .initramfsShell),
        ("Gave up waiting for root device", .initramfsShell),
        // Arch Linux's mkinitcpio; Alpine Linux's mkinitfs.
        ("You are now being dropped into an emergency shell", .initramfsShell),
        ("initramfs emergency recovery shell launched", .initramfsShell),
        ("No bootable device", .noBootableDevice), ("No bootable option or device was found", .noBootableDevice),
        ("Operating System not found", .noBootableDevice), ("Missing operating system", .noBootableDevice),
        ("BOOTMGR is missing", .noBootableDevice), ("NTLDR is missing", .noBootableDevice),
        ("UEFI Interactive Shell v", .firmwareShell),
        ("Your device ran into a problem", .blueScreen), ("Your PC ran into a problem", .blueScreen),
        ("A problem has been detected and ", .blueScreen), ("*** STOP: 0x", .blueScreen),
    ]

    static func failure(in line: String) -> BootVerdict.Reason? { failures.first { line.contains($0.text) }?.reason }

    /// The prompt in a last line, of a program that waits instead of starting the system.
    static func failure(prompt line: String) -> BootVerdict.Reason? {
        var text = line[...]
        while let last = text.last, last == " " || last == "_" || last == ScreenReader.unknown { text.removeLast() }
        if text.hasSuffix("grub rescue>") { return .grubRescue }
        if text.hasSuffix("grub>") { return .grubPrompt }
        if text.hasSuffix("(initramfs)") || text.hasPrefix("dracut:/") && text.hasSuffix("#") { return .initramfsShell }
        if text.hasSuffix("Shell>") { return .firmwareShell }
        return nil
    }
}
