/**
 * One life of a device process, as the supervisor sees it.
 *
 * Theory of operation: the process gets the control channel, our stderr for its
 * log, and the sockets and other descriptors of its devices, by number (see
 * `protocol.ts`). What it prints besides its log comes through a pipe and becomes
 * log lines of ours: a
 * crash of the runtime, whose last words are the cause of its end, or what a
 * device prints. The end of the process is told by its pidfd, and by nothing
 * else; what the kernel does for it beyond that is told by its remains.
 *
 * @module
 */

import type { Reactor } from "../../sys/reactor.ts";
import {
  createPipe,
  type ExitStatus,
  SpawnedProcess,
} from "../../sys/spawn.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import type { Logger } from "../log.ts";
import { commandLine, runtimePath } from "./command_line.ts";
import { ControlChannel, type Handlers } from "./control_channel.ts";
import { describeExit } from "./exit_cause.ts";
import { OutputLines } from "./output_lines.ts";
import { Remains } from "./remains.ts";

const STDERR = 2;
const SIGKILL = 9;
/** How much longer than draining the end of a process may take, in ms. */
const EXIT_LIMIT = 2_000;

/** How a process ended, and why. */
export interface ProcessEnd extends ExitStatus {
  /** Why, for people. */
  readonly cause: string;
}

/** What a process is to serve. */
export interface ServedSocket {
  /** Name of the device. */
  readonly name: string;
  /** URL of its module. */
  readonly module: string;
  /** Descriptor of its socket; it stays the caller's. */
  readonly fd: number;
}

/** A process that serves devices. */
export class DeviceProcess {
  /** Its process ID. */
  readonly pid: number;
  /** The control channel. */
  readonly channel: ControlChannel;
  /** Resolves when the process has ended. */
  readonly ended: Promise<ProcessEnd>;
  /** What the kernel still does for it, then. Whoever starts processes disposes. */
  readonly remains: Remains;
  /** Why the process said that it would end, as far as it did. */
  problem: string | null = null;
  readonly #process: SpawnedProcess;
  readonly #stopLimit: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  private constructor(
    process: SpawnedProcess,
    channel: ControlChannel,
    output: OutputLines,
    remains: Remains,
    reactor: Reactor,
    drainLimit: number,
  ) {
    this.remains = remains;
    this.#stopLimit = drainLimit + EXIT_LIMIT;
    this.pid = process.pid;
    this.channel = channel;
    this.#process = process;
    this.ended = this.#untilEnd(output, reactor);
  }

  /**
   * Starts a process.
   *
   * @param sockets those of its devices, in their order
   * @param others the descriptors that it gets behind those of the sockets; they
   * stay the caller's
   * @param handlers what it may tell
   * @param log takes what it prints
   * @param drainLimit how long it drains before it gives up, in ms
   * @throws {SystemError} when the system has no room for a process
   */
  static start(
    sockets: readonly ServedSocket[],
    others: readonly number[],
    handlers: Handlers,
    log: Logger,
    reactor: Reactor,
    drainLimit: number,
  ): DeviceProcess {
    const [ours, theirs] = UnixSocket.pair();
    const [read, write] = createPipe();
    const [remains, held] = createPipe();
    using _theirs = theirs, _write = write, _held = held;
    using failed = new DisposableStack();
    failed.use(ours);
    failed.use(read);
    failed.use(remains);
    const process = SpawnedProcess.start(
      runtimePath(),
      commandLine(
        sockets.map(({ name }) => name),
        sockets.map(({ module }) => module),
      ),
      [
        ...[null, write.fd, write.fd, theirs.fd, STDERR, held.fd],
        ...sockets.map(({ fd }) => fd),
        ...others,
      ],
    );
    failed.move();
    const { pid } = process;
    const output = new OutputLines(
      read,
      reactor,
      (line) => log.warn(line, { pid }),
    );
    const channel = new ControlChannel(ours, reactor, handlers);
    return new DeviceProcess(
      process,
      channel,
      output,
      new Remains(remains, reactor),
      reactor,
      drainLimit,
    );
  }

  /** Makes the process drain and end; it is killed when that takes too long. */
  stop(): void {
    this.channel.tell("stop");
    this.#limit();
  }

  /** Ends the process at once: whatever it was doing is lost. */
  kill(): void {
    this.#process.signal(SIGKILL);
  }

  #limit(): void {
    if (this.#process.reap() !== null) return;
    this.#timer ??= setTimeout(() => {
      this.problem = `it did not end in ${this.#stopLimit} ms and was killed`;
      this.kill();
    }, this.#stopLimit);
  }

  async #untilEnd(output: OutputLines, reactor: Reactor): Promise<ProcessEnd> {
    using process = this.#process;
    // A process that cannot be talked to any more is one that is to end.
    void this.channel.ended.then(() => this.#limit());
    let status: ExitStatus | null = null;
    while (status === null) {
      await reactor.readable(process.fd);
      status = process.reap();
    }
    output.finish();
    // What it said last may not have been read yet.
    await this.channel.ended;
    clearTimeout(this.#timer);
    const cause = this.problem ?? describeExit(status, output.last);
    return { ...status, cause };
  }
}
