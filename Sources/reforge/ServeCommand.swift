// SPDX-License-Identifier: GPL-3.0-or-later
import ArgumentParser
import JobModel

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves a disk, an image or a snapshot as a read-only network block device (NBD).",
        discussion: """
            The source appears as the whole disk, with random access: nothing is unpacked first. The address is the \
            first line of standard output; the command serves until Ctrl-C. Bytes not in use read as zeros. Bytes that \
            the capture could not read, or that are damaged, are read errors, never zeros.

            Examples:

              reforge serve laptop.img.zst
              reforge serve repo@latest --socket /run/user/1000/laptop.sock
              reforge serve laptop.img.zst --listen 127.0.0.1:10809

            Then, with the address that it prints:

              qemu-img info 'nbd+unix:///?socket=/run/user/1000/laptop.sock'
              nbdcopy 'nbd+unix:///?socket=/run/user/1000/laptop.sock' disk.raw

            NBD has no passwords here: only the user can connect to the socket, but every user of this machine to a \
            port. Other machines cannot; forward the port (ssh -L), or the socket. 16 clients are served at a time; a \
            further one takes the place of a client that was idle for five minutes.

            JSON fields: schema (1), uri, source, byteCount, logicalSectorSize, imageID (of an image or a snapshot). \
            Exit code 65 or 74 at the end if a read failed because of the source.
            """)

    @Argument(help: "A disk, an image or a snapshot.") var source: String
    @Option(help: ArgumentHelp("The path of the Unix socket (default: in a new private folder).", valueName: "path"))
    var socket: String?
    @Option(
        help: ArgumentHelp(
            "A TCP port of this machine in place of a socket; port 0 for any.", valueName: "127.0.0.1:port"),
        transform: LoopbackPort.init(text:))
    var listen: LoopbackPort?
    @Flag(help: "Serve without writing: always so, and accepted for clarity.") var readOnly = false
    @Flag(help: "Print one JSON object.") var json = false
    @OptionGroup var keyOptions: KeyOptions
    @OptionGroup var backingOptions: BackingOptions
    @OptionGroup var eventOptions: EventOptions

    func validate() throws {
        if socket != nil, listen != nil { throw ValidationError("--socket and --listen exclude each other") }
    }

    func run() throws {
        var job = ServeJob(source: source)
        if let socket { job.place = .socket(socket) }
        if let listen { job.place = .loopback(port: listen.port) }
        job.allowsBacking = backingOptions.allowBacking
        try ServePresenter(job: job, json: json).run(keyOptions, eventOptions.sink("serve"))
    }
}

/// `127.0.0.1:PORT` or `localhost:PORT`.
struct LoopbackPort {
    var port: UInt16

    init(text: String) throws {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, ["127.0.0.1", "localhost"].contains(parts[0]), let port = UInt16(parts[1]) else {
            throw ValidationError(
                "--listen takes 127.0.0.1:PORT. NBD has neither passwords nor encryption here: at any other address, "
                    + "every machine that reaches it could read the whole disk. Forward the port instead (ssh -L)")
        }
        self.port = port
    }
}
