// SPDX-License-Identifier: GPL-3.0-or-later

/// How far a system came when it was started.
package enum BootVerdict: Equatable, Sendable {
    case proven(Sign)
    /// It runs and shows something that stays; nothing says what.
    case started
    case notProven(Reason)

    /// What only a system that has started can give.
    package enum Sign: Equatable, Sendable {
        /// Its guest agent answers; with the name of the system, if it gave one.
        case agent(system: String?)
        case serialLogin(prompt: String)
        case screenLogin(prompt: String)
        case expectedText(BootJudge.Place)

        package var name: String {
            switch self {
            case .agent: "guest-agent"
            case .serialLogin: "serial-login"
            case .screenLogin: "screen-login"
            case .expectedText: "expected-text"
            }
        }

        /// Half a sentence.
        package var description: String {
            switch self {
            case .agent(let system):
                "its guest agent answers" + (system.map { " (\(ConsoleText.shown($0)))" } ?? "")
            case .serialLogin(let prompt): "a login on a serial line: “\(ConsoleText.shown(prompt))”"
            case .screenLogin(let prompt): "a login on the screen: “\(ConsoleText.shown(prompt))”"
            case .expectedText(let place): "the expected text was on \(place.description)"
            }
        }
    }

    package enum Reason: String, Codable, Sendable, CaseIterable {
        case noBootableDevice = "no-bootable-device"
        case grubRescue = "grub-rescue"
        case grubPrompt = "grub-prompt"
        case firmwareShell = "firmware-shell"
        case initramfsShell = "initramfs-shell"
        case emergencyMode = "emergency-mode"
        case kernelPanic = "kernel-panic"
        case blueScreen = "blue-screen"
        case restarts
        case poweredOff = "powered-off"
        case stopped
        case timeout

        /// A sentence part, after "the system ".
        package var sentence: String {
            switch self {
            case .noBootableDevice: "was not found: the firmware sees nothing to boot from"
            case .grubRescue: "was not started: GRUB stands at its rescue prompt, without its own files"
            case .grubPrompt: "was not started: GRUB stands at its prompt, without its configuration"
            case .firmwareShell: "was not started: the firmware's shell came up instead"
            case .initramfsShell: "did not find its root filesystem: the initramfs stands at a shell"
            case .emergencyMode: "stands in emergency mode"
            case .kernelPanic: "crashed: the kernel panicked"
            case .blueScreen: "crashed: a blue screen stands"
            case .restarts: "restarts again and again"
            case .poweredOff: "switched itself off"
            case .stopped: "was stopped by QEMU, which met an error"
            case .timeout: "gave no sign of a finished start in the time it had"
            }
        }
    }
}
