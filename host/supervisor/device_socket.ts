/**
 * The socket of a device, which outlives the processes that serve it.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { KEPT_RINGS_SIZE } from "../../vhost/kept_rings.ts";
import type { DeviceSpec } from "../device_host.ts";
import { adoptSocket } from "../inherited_socket.ts";

/**
 * - `open`: it is served, or is to be served again
 * - `finished`: the front-end of a connected socket has left
 * - `dropped`: the front-end of a connected socket broke the protocol
 * - `lost`: the process died that served a connected socket
 */
export type SocketState = "open" | "finished" | "dropped" | "lost";

/** A device and its socket. */
export class DeviceSocket implements Disposable {
  /** The device. */
  spec: DeviceSpec;
  readonly #socket: UnixListener | UnixSocket;
  /** Memory in which packed rings outlive a process; `null`: none was started. */
  #kept: OwnedFd | null = null;
  #state: SocketState = "open";

  private constructor(spec: DeviceSpec, socket: UnixListener | UnixSocket) {
    this.spec = spec;
    this.#socket = socket;
  }

  /**
   * Listens, or takes the inherited descriptor over.
   *
   * @throws {SystemError} when the path is taken or too long, or when the
   * descriptor is no Unix socket
   */
  static open(spec: DeviceSpec): DeviceSocket {
    const { socket, fd, mode, group } = spec;
    return new DeviceSocket(
      spec,
      socket === undefined
        ? adoptSocket(fd!)
        : UnixListener.listen(socket, { mode, group }),
    );
  }

  /** Name of the device. */
  get name(): string {
    return this.spec.name;
  }

  /** URL of its module. */
  get module(): string {
    return this.spec.module;
  }

  /** The descriptor; it stays owned by this object. */
  get fd(): number {
    return this.#socket.fd;
  }

  /**
   * The descriptor of the memory of its rings, which is made when it is first asked
   * for: by then all inherited descriptors were taken over. It stays owned by this
   * object.
   */
  get keptFd(): number {
    this.#kept ??= createMemfd("vhostd-rings", KEPT_RINGS_SIZE);
    return this.#kept.fd;
  }

  /** What can be done with it. */
  get state(): SocketState {
    return this.#state;
  }

  /** A process has it: nobody else may hold a connection open. */
  handedOn(): void {
    if (this.#socket instanceof UnixSocket) this.#socket.close();
  }

  /** The front-end of a connected socket has left, or was dropped. */
  finished(dropped: boolean): void {
    if (this.#socket instanceof UnixSocket) {
      this.#state = dropped ? "dropped" : "finished";
    }
  }

  /** The process ended that served it. */
  processEnded(): void {
    if (this.#socket instanceof UnixSocket && this.#state === "open") {
      this.#state = "lost";
    }
  }

  /** Closes the socket, and removes its file. */
  [Symbol.dispose](): void {
    this.#socket.close();
    this.#kept?.close();
  }
}
