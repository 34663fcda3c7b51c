/**
 * The passt backend: user-mode networking without privileges.
 *
 * Theory of operation: passt is started with one end of a socket pair, or reached
 * by the socket that it listens on. It translates between frames and sockets of
 * the host; it knows no virtio header, so checksums are filled in before frames
 * are sent to it, and what it sends is complete. When the connection ends, the
 * link goes down; a second later, and then every second, it is tried again.
 *
 * A passt that ends is reaped at once, because its pidfd is watched. One whose
 * connection was closed is asked to end, and killed when the next attempt finds
 * it there.
 *
 * A socket that is full shows by an epoll instance that holds it alone: that
 * becomes readable when the socket becomes writable, and is watched like any
 * other descriptor. A passt that does not read at all says nothing, and neither
 * does a driver whose ring waits: so the rings are woken by a timer, too, until
 * their patience ends. The same timer measures the time between two attempts to
 * connect; there is never a reason for both.
 *
 * @module
 */

import {
  Epoll,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
} from "../../sys/epoll.ts";
import { findProgram } from "../../sys/environment.ts";
import { SystemError } from "../../sys/errno.ts";
import { setNonblocking } from "../../sys/fd.ts";
import { SpawnedProcess } from "../../sys/spawn.ts";
import { TimerFd } from "../../sys/timer.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import type { DeviceContext } from "../../virtqueue/device.ts";
import { BUSY, type NetBackend, type NetPort, SENT, WAIT } from "./backend.ts";
import { NetBackendError } from "./error.ts";
import type { Frame } from "./frame.ts";
import { EMPTY, FRAME, StreamFrames } from "./stream_frames.ts";

/** Milliseconds between attempts to connect again. */
const RETRY_INTERVAL = 1000;
/** Milliseconds between wake-ups of rings that wait for a socket that is full. */
const BUSY_INTERVAL = 250;
/** Descriptor of the socket in a passt that we start. */
const CHILD_FD = 3;
/** Milliseconds that a passt has to end when it is asked to. */
const END_TIMEOUT = 500;
const SIGKILL = 9, SIGTERM = 15;
const ENDED: number = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

/** How passt is reached. */
export interface PasstOptions {
  /** The program, a path or a name to be found on PATH. */
  readonly passt: string;
  /** Socket of one that runs already, or empty. */
  readonly passtSocket: string;
  /** More arguments for one that is started. */
  readonly passtArgs: readonly string[];
}

/** One connection to a passt. */
interface Connection {
  readonly socket: UnixSocket;
  readonly frames: StreamFrames;
  /** Readable when the socket is writable. */
  readonly writable: Epoll;
  readonly child: SpawnedProcess | null;
}

/** Frames to and from passt. */
export class PasstBackend implements NetBackend {
  readonly description: string;
  readonly takes = 0;
  readonly gives = 0;
  readonly maxPairs = 1;
  readonly #options: PasstOptions;
  readonly #context: DeviceContext;
  #port: NetPort | null = null;
  #connection: Connection | null = null;
  #readable = true;
  #pending = false;
  readonly #timer: TimerFd = TimerFd.create();
  /** The timer measures how long the socket is full. */
  #waiting = false;
  /** A frame found the socket full since the timer expired. */
  #busy = false;
  #connections = 0;
  #dropped = 0;
  #badLength = 0;
  /** Were asked to end, and are there. */
  readonly #ending = new Set<SpawnedProcess>();

  /**
   * Starts passt or connects to it.
   *
   * @throws {NetBackendError} when that is not possible
   */
  constructor(options: PasstOptions, context: DeviceContext) {
    this.#options = options;
    this.#context = context;
    this.description = options.passtSocket === ""
      ? `passt ${options.passt}`
      : `passt on ${options.passtSocket}`;
    try {
      this.#open();
    } catch (error) {
      this.#timer.close();
      throw error;
    }
    context.watch(this.#timer.fd, () => this.#expired());
  }

  get linkUp(): boolean {
    return this.#connection !== null;
  }

  attach(port: NetPort): void {
    this.#port = port;
  }

  setOffloads(): void {}

  setPairs(): void {}

  send(frame: Frame): number {
    const connection = this.#connection;
    if (connection === null) {
      this.#dropped++;
      return SENT;
    }
    if (connection.frames.send(frame)) return SENT;
    this.#busy = true;
    if (!this.#waiting) {
      this.#waiting = true;
      this.#timer.set(BUSY_INTERVAL);
    }
    return BUSY;
  }

  receive(_pair: number, budget: number): boolean {
    const connection = this.#connection;
    if (connection === null) return false;
    const { frames } = connection;
    for (let i = 0; i < budget; i++) {
      if (!this.#pending) {
        if (!this.#readable) return false;
        const found = frames.next();
        if (found !== FRAME) {
          this.#readable = false;
          if (found !== EMPTY) this.#lost(frames.reason);
          return false;
        }
      }
      this.#pending = this.#port!.deliver(frames.frame, 0, true) === WAIT;
      if (this.#pending) return true;
    }
    return true;
  }

  status(): Record<string, unknown> {
    return {
      passt: {
        connected: this.linkUp,
        connections: this.#connections,
        pid: this.#connection?.child?.pid ?? null,
        dropped: this.#dropped,
        badLength: this.#badLength +
          (this.#connection?.frames.badLength ?? 0),
      },
    };
  }

  close(): void {
    this.#context.watch(this.#timer.fd, null);
    this.#timer.close();
    this.#disconnect();
    for (const child of this.#ending) {
      this.#context.watch(child.fd, null);
      if (!endsWithin(child, END_TIMEOUT)) {
        child.signal(SIGKILL);
        endsWithin(child, END_TIMEOUT);
      }
      child[Symbol.dispose]();
    }
    this.#ending.clear();
  }

  /** It is time to try again, or to wake rings that wait. */
  #expired(): void {
    // It was set anew after it had expired: that time has not come.
    if (this.#timer.drain() === 0) return;
    if (this.#connection === null) return this.#retry();
    if (this.#busy) {
      this.#busy = false;
      this.#port?.sendable();
    } else {
      this.#waiting = false;
      this.#timer.set(0);
    }
  }

  #retry(): void {
    for (const child of this.#ending) child.signal(SIGKILL);
    try {
      this.#open();
    } catch (error) {
      if (!(error instanceof NetBackendError)) throw error;
      return;
    }
    this.#timer.set(0);
    this.#context.log("info", `${this.description}: connected again`);
    this.#port?.linkChanged();
  }

  #open(): void {
    const { passtSocket } = this.#options;
    const [socket, child] = passtSocket === ""
      ? this.#start()
      : [this.#connect(passtSocket), null];
    const writable = new Epoll();
    // Edge-triggered: only changes are told.
    writable.add(socket.fd, (EPOLLOUT | EPOLLRDHUP | EPOLLET) >>> 0, 0);
    const frames = new StreamFrames(socket.fd);
    this.#connection = { socket, frames, writable, child };
    this.#connections++;
    this.#readable = true;
    this.#pending = false;
    if (child !== null) {
      this.#context.watch(child.fd, () => this.#reap(child));
    }
    this.#context.watch(socket.fd, () => {
      this.#readable = true;
      this.#port?.receivable(0);
    });
    this.#context.watch(writable.fd, () => {
      const count = writable.wait(0);
      // Its end is seen here even where no guest receives.
      if (count > 0 && (writable.events(0) & ENDED) !== 0) {
        this.#lost("it was closed");
      } else if (frames.flush()) this.#port?.sendable();
    });
  }

  #connect(path: string): UnixSocket {
    try {
      return UnixSocket.connect(path);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      throw new NetBackendError(
        "connect",
        `Cannot connect to passt on "${path}": ${error.message}`,
        { cause: error },
      );
    }
  }

  #start(): [UnixSocket, SpawnedProcess] {
    const { passt, passtArgs } = this.#options;
    const path = findProgram(passt);
    if (path === null) {
      const where = passt.includes("/") ? "" : " on PATH";
      throw new NetBackendError(
        "program",
        `Cannot find a program "${passt}"${where}: install passt, name it ` +
          "with passt=PATH, or use backend=switch",
      );
    }
    const [ours, theirs] = UnixSocket.pair();
    try {
      const args = [
        "passt",
        "--foreground",
        "--quiet",
        ...["--fd", String(CHILD_FD)],
        ...passtArgs,
      ];
      // passt says when it does not want to wait; else it relies on waiting.
      setNonblocking(theirs.fd, false);
      const fds = [null, null, 2, theirs.fd];
      return [ours, SpawnedProcess.start(path, args, fds)];
    } catch (error) {
      ours[Symbol.dispose]();
      if (!(error instanceof SystemError)) throw error;
      throw new NetBackendError(
        "program",
        `Cannot start "${path}": ${error.message}`,
        { cause: error },
      );
    } finally {
      theirs[Symbol.dispose]();
    }
  }

  #lost(reason: string): void {
    this.#context.log(
      "error",
      `${this.description}: connection lost, ${reason}`,
    );
    this.#disconnect();
    this.#waiting = this.#busy = false;
    this.#timer.set(RETRY_INTERVAL);
    this.#port?.linkChanged();
    // Rings that wait for it go on, and lose their frames.
    this.#port?.sendable();
  }

  #disconnect(): void {
    const connection = this.#connection;
    if (connection === null) return;
    const { socket, frames, writable, child } = connection;
    this.#connection = null;
    this.#pending = false;
    this.#badLength += frames.badLength;
    this.#context.watch(socket.fd, null);
    this.#context.watch(writable.fd, null);
    writable.close();
    socket[Symbol.dispose]();
    frames[Symbol.dispose]();
    if (child === null) return;
    this.#ending.add(child);
    child.signal(SIGTERM);
  }

  /** A passt ended. */
  #reap(child: SpawnedProcess): void {
    if (child.reap() === null) return;
    this.#context.watch(child.fd, null);
    if (this.#connection?.child === child) this.#lost("passt ended");
    this.#ending.delete(child);
    child[Symbol.dispose]();
  }
}

/** Waits for the end of a process; false: it did not end in so many ms. */
function endsWithin(child: SpawnedProcess, timeout: number): boolean {
  const epoll = new Epoll();
  try {
    epoll.add(child.fd, EPOLLIN, 0);
    epoll.wait(timeout);
    return child.reap() !== null;
  } finally {
    epoll.close();
  }
}
