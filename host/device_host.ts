/**
 * One served device: its data plane, its socket, and the session with the
 * front-end that is connected.
 *
 * Theory of operation
 * -------------------
 * The device lives as long as the host; front-ends come and go. At most one is
 * connected: vhost-user gives a device to one guest. A second one is closed with
 * a log line, unless the first one has hung up already and its session is just
 * being wound up: then the newcomer waits for the end of that (a restarted QEMU
 * reconnects faster than requests drain). A session that ends, for whatever
 * reason, leaves the device reset and the socket listening. Whoever connects and
 * says nothing is no front-end, and counts as nothing: another server looks in
 * that way whether the socket is served.
 *
 * A host that was given a connected socket serves it and is done when the
 * front-end leaves.
 *
 * @module
 */

import type { Reactor, Watch } from "../sys/reactor.ts";
import { Epoll, EPOLLIN, EPOLLRDHUP } from "../sys/epoll.ts";
import { UnixListener, UnixSocket } from "../sys/unix_socket.ts";
import { OwnedFd } from "../sys/fd.ts";
import { Connection } from "../vhost/connection.ts";
import { KeptRings } from "../vhost/kept_rings.ts";
import { Session } from "../vhost/session.ts";
import { adoptSocket } from "./inherited_socket.ts";
import type { Logger } from "./log.ts";
import { type DeviceError, WorkerPlane, WorkerPool } from "./worker_plane.ts";

/** How long a listener rests after it could not accept, in ms. */
const ACCEPT_PAUSE = 100;

/** What to serve, and where. */
export interface DeviceSpec {
  /** Name for people and for management, unique in the process (`blk0`). */
  readonly name: string;
  /** Type of the device (`blk`, …). */
  readonly type: string;
  /** URL of the device module; its default export is a `CreateDevice`. */
  readonly module: string;
  /** Options of the device: JSON values. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Path of the socket to listen on. */
  readonly socket?: string;
  /** Descriptor of a socket that listens, or is connected, already. */
  readonly fd?: number;
  /** Permission bits of the socket file (default 0o600). */
  readonly mode?: number;
  /** Group ID of the socket file. */
  readonly group?: number;
  /**
   * Keys of those options that are descriptors of this process: one that serves
   * the device in its place gets duplicates, and their numbers.
   */
  readonly descriptors?: readonly string[];
  /** Number of Workers that share the rings (default 1). */
  readonly workers?: number;
  /** Name of the devices of this process that share one Worker. */
  readonly workerGroup?: string | null;
  /** How long to look at the rings before sleeping: a mode, or microseconds. */
  readonly poll?: "auto" | "off" | number;
  /** Offer `VIRTIO_F_EVENT_IDX` (default true). */
  readonly eventIdx?: boolean;
  /** Offer `VIRTIO_F_INDIRECT_DESC` (default true). */
  readonly indirect?: boolean;
  /** Offer `VIRTIO_F_RING_PACKED` (default true). */
  readonly packed?: boolean;
  /** Offer `VIRTIO_F_IN_ORDER` (default true). */
  readonly inOrder?: boolean;
  /** How many queues there are for people, and how to have more. */
  readonly ringHint?: string;
  /**
   * How long (ms) a lock is waited for that a predecessor may still hold (default
   * 5000).
   */
  readonly lockPatience?: number;
  /** What the device's predecessor kept for it: a JSON value. */
  readonly kept?: unknown;
  /** Descriptor of memory in which packed rings outlive the process. */
  readonly keptFd?: number;
}

/** Serves one device. */
export class DeviceHost {
  /** What is served. */
  readonly spec: DeviceSpec;
  /** Resolves when the device failed: it serves nothing any more. */
  readonly failed: Promise<DeviceError>;
  /** Resolves when there is nothing left to serve. */
  readonly done: Promise<void>;
  readonly #kept: KeptRings | null;
  #finish!: () => void;
  readonly #plane: WorkerPlane;
  readonly #log: Logger;
  readonly #reactor: Reactor;
  #listener: UnixListener | null = null;
  #watch: Watch | null = null;
  #current: { session: Session; socket: UnixSocket } | null = null;
  #waiting: UnixSocket | null = null;
  #serving: Promise<void> = Promise.resolve();
  #connections = 0;
  #refused = 0;
  #dropped = 0;
  #lastDrop: string | null = null;
  #connectedBefore = false;
  #stopped = false;

  private constructor(
    spec: DeviceSpec,
    plane: WorkerPlane,
    log: Logger,
    reactor: Reactor,
  ) {
    this.spec = spec;
    this.#plane = plane;
    this.#log = log;
    this.#reactor = reactor;
    this.failed = plane.failed;
    const { keptFd } = spec;
    this.#kept = keptFd === undefined
      ? null
      : new KeptRings(new OwnedFd(keptFd));
    this.done = new Promise((resolve) => this.#finish = resolve);
    plane.events = {
      configChanged: () => this.#current?.session.configChanged(),
    };
  }

  /**
   * Makes the device and listens.
   *
   * @param pool knows the Workers of groups in this process
   * @param onKeep takes what the device keeps for a successor; resolves when it
   * would have it
   * @param onWaitsFor takes what the device waits for while it is made
   * @throws {DeviceError} when the device refuses its options
   * @throws {SystemError} when the socket cannot be had
   */
  static async start(
    spec: DeviceSpec,
    log: Logger,
    reactor: Reactor,
    pool: WorkerPool = new WorkerPool(),
    onKeep: (value: unknown) => void | Promise<void> = () => {},
    onWaitsFor: (what: string) => void = () => {},
  ): Promise<DeviceHost> {
    if ((spec.socket === undefined) === (spec.fd === undefined)) {
      throw new TypeError(
        `Cannot serve "${spec.name}": give a socket path or a descriptor, one of them`,
      );
    }
    const child = log.child({ device: spec.name });
    const plane = await WorkerPlane.start({
      module: spec.module,
      options: spec.options,
      workers: spec.workers,
      pool,
      group: spec.workerGroup,
      poll: spec.poll,
      eventIdx: spec.eventIdx,
      indirect: spec.indirect,
      packed: spec.packed,
      inOrder: spec.inOrder,
      lockPatience: spec.lockPatience,
      kept: spec.kept,
      onKeep,
      onWaitsFor,
      log: (level, message) => child[level](message),
    });
    const host = new DeviceHost(spec, plane, child, reactor);
    plane.frontEndPresent = () =>
      host.#current !== null && !hasHungUp(host.#current.socket);
    try {
      host.#open();
    } catch (error) {
      await plane.close();
      throw error;
    }
    return host;
  }

  /** Name of the device. */
  get name(): string {
    return this.spec.name;
  }

  /** Whether the front-end of a connected socket was dropped. */
  get dropped(): boolean {
    return this.#connectedBefore && this.#lastDrop !== null;
  }

  /** Facts and counters: a JSON object. */
  async status(): Promise<Record<string, unknown>> {
    const { rings, device, missedWakeUps } = await this.#plane.status();
    const { name, type, socket } = this.spec;
    return {
      name,
      type,
      socket: socket ?? null,
      connected: this.#current !== null,
      connections: this.#connections +
        (this.#current?.session.spoke === true ? 1 : 0),
      refusedConnections: this.#refused,
      droppedConnections: this.#dropped,
      lastDrop: this.#lastDrop,
      session: this.#current?.session.status() ?? null,
      rings,
      missedWakeUps,
      device,
    };
  }

  /** A management command of the device. */
  command(
    name: string,
    parameters: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    return this.#plane.command(name, parameters);
  }

  /** Closes and removes the socket, drains every ring, lets the front-end go. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#watch?.close();
    this.#waiting?.close();
    this.#waiting = null;
    // Whoever connects from now on is to reach a successor, or nobody.
    this.#listener?.close();
    this.#plane.hurry();
    try {
      await this.#current?.session.stop();
      await this.#serving;
    } finally {
      await this.#plane.close();
      this.#kept?.[Symbol.dispose]();
      this.#finish();
    }
  }

  #open(): void {
    const { socket, fd, mode = 0o600, group } = this.spec;
    const endpoint = socket !== undefined
      ? UnixListener.listen(socket, { mode, group })
      : adoptSocket(fd!);
    if (endpoint instanceof UnixSocket) {
      this.#connectedBefore = true;
      this.#serving = this.#serve(endpoint).then(this.#finish);
      return;
    }
    this.#listener = endpoint;
    this.#listen(endpoint);
  }

  #listen(listener: UnixListener): void {
    this.#watch = this.#reactor.watch(listener.fd, EPOLLIN, () => {
      try {
        for (;;) {
          const accepted = listener.tryAccept();
          if (accepted === null) return;
          this.#admit(accepted);
        }
      } catch (error) {
        this.#pauseListening(listener, error);
      }
    });
  }

  /** No descriptor is free for a connection: let it wait for a while. */
  #pauseListening(listener: UnixListener, error: unknown): void {
    this.#log.error(`Cannot accept a front-end: ${messageOf(error)}`);
    this.#watch?.close();
    setTimeout(() => {
      if (!this.#stopped) this.#listen(listener);
    }, ACCEPT_PAUSE);
  }

  #admit(socket: UnixSocket): void {
    if (leftWithoutAWord(socket)) {
      const { pid } = socket.peerCredentials();
      this.#log.debug("a connection ended without a message", { pid });
      socket.close();
    } else if (this.#waiting !== null && hasHungUp(this.#waiting)) {
      this.#waiting.close();
      this.#waiting = socket;
    } else if (
      this.#waiting === null && !this.#stopped &&
      (this.#current === null || hasHungUp(this.#current.socket))
    ) {
      this.#waiting = socket;
      this.#serving = this.#serving.then(() => this.#serveWaiting());
    } else {
      this.#refused++;
      const { pid } = socket.peerCredentials();
      this.#log.warn(
        `Refused a second front-end (pid ${pid}): the socket serves another one`,
      );
      socket.close();
    }
  }

  async #serveWaiting(): Promise<void> {
    const socket = this.#waiting;
    this.#waiting = null;
    if (socket !== null) await this.#serve(socket);
  }

  async #serve(socket: UnixSocket): Promise<void> {
    const log = this.#log.child({ pid: socket.peerCredentials().pid });
    const connection = new Connection(socket, this.#reactor);
    const session = new Session(connection, this.#plane, {
      log,
      kept: this.#kept,
      ringHint: this.spec.ringHint,
    });
    this.#current = { session, socket };
    try {
      await session.run();
    } catch (error) {
      log.error(`The device gave up: ${messageOf(error)}`);
    } finally {
      this.#current = null;
      if (session.spoke) this.#connections++;
      if (session.dropped !== null) {
        this.#dropped++;
        this.#lastDrop = session.dropped;
      }
    }
  }
}

/** True when the peer of a stream socket has closed its end. */
function hasHungUp(socket: UnixSocket): boolean {
  if (socket.closed) return true;
  using epoll = new Epoll();
  epoll.add(socket.fd, EPOLLRDHUP, 0);
  return epoll.wait(0) > 0;
}

/** True when the peer has closed its end, and sent nothing before. */
function leftWithoutAWord(socket: UnixSocket): boolean {
  return hasHungUp(socket) && socket.tryPeek(new Uint8Array(1)) === 0;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
