/**
 * Serving one device from a program: what `mod.ts` exports.
 *
 * @module
 */

import { resolve, toFileUrl } from "@std/path";
import { Reactor } from "../sys/reactor.ts";
import { requirePlatform } from "../sys/platform.ts";
import { raiseNofileLimit } from "../sys/process.ts";
import { DeviceHost } from "./device_host.ts";
import { Logger } from "./log.ts";
import { StartWatch } from "./start_watch.ts";
import { WorkerPool } from "./worker_plane.ts";
import type { LogLevel } from "../virtqueue/device.ts";

/** What {@linkcode serve} serves, and how. */
export interface ServeOptions {
  /**
   * The device module: its default export is a {@linkcode CreateDevice}. A URL,
   * or a path, relative to the working directory. It is imported by a Worker, so a
   * module may name itself with `import.meta.url`; what an import map names is
   * `import.meta.resolve("@vhostd/vhostd/blk")`.
   */
  readonly device: string | URL;
  /** Options of the device: JSON values. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Path of the Unix socket to listen on, at most 107 bytes. */
  readonly socket: string;
  /** Permission bits of the socket file (default 0o600). */
  readonly mode?: number;
  /** Name of the device in log lines (default `device`). */
  readonly name?: string;
  /** Number of Workers that share the rings (default 1). */
  readonly workers?: number;
  /**
   * Name of a group of devices that share state: those that this program serves
   * with the same name live in one Worker, and in one instance of their modules.
   * Default: the device has Workers of its own.
   */
  readonly workerGroup?: string;
  /**
   * How long to look at the rings before sleeping: `auto` (default), `off`, or
   * microseconds.
   */
  readonly poll?: "auto" | "off" | number;
  /** Offer `VIRTIO_F_EVENT_IDX` (default true). */
  readonly eventIdx?: boolean;
  /** Offer `VIRTIO_F_INDIRECT_DESC` (default true). */
  readonly indirect?: boolean;
  /** Offer `VIRTIO_F_RING_PACKED` (default true). */
  readonly packed?: boolean;
  /** Offer `VIRTIO_F_IN_ORDER` (default true). */
  readonly inOrder?: boolean;
  /**
   * How long, in milliseconds, a start of the device waits for the lock of its
   * image, which a predecessor that was killed may still hold (default 5000; 0:
   * it is refused at once).
   */
  readonly lockPatience?: number;
  /** Least level that is logged, on stderr (default `info`). */
  readonly logLevel?: LogLevel;
  /** Stop on SIGINT and SIGTERM (default true). */
  readonly signals?: boolean;
}

/** The Workers of groups in this program. */
const POOL = new WorkerPool();

/** A device that is being served. */
export interface Server extends AsyncDisposable {
  /** Resolves after {@linkcode stop}; rejects when the device failed. */
  readonly finished: Promise<void>;
  /** Facts and counters of the device and its connection: a JSON object. */
  status(): Promise<Record<string, unknown>>;
  /** A management command of the device. */
  command(
    name: string,
    parameters?: Readonly<Record<string, unknown>>,
  ): Promise<unknown>;
  /** Drains every ring, lets the front-end go, removes the socket. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Serves a virtio device on a Unix socket, until it is stopped.
 *
 * @throws {DeviceError} when the device refuses its options
 * @throws {SystemError} when the platform or the socket path does not serve
 *
 * @example A block device
 * ```ts no-assert
 * import { serve } from "@vhostd/vhostd";
 *
 * await using server = await serve({
 *   device: import.meta.resolve("@vhostd/vhostd/blk"),
 *   options: { path: "disk.img" },
 *   socket: "./blk.sock",
 * });
 * await server.finished;
 * ```
 */
export async function serve(options: ServeOptions): Promise<Server> {
  requirePlatform();
  raiseNofileLimit();
  const { device, socket, mode, eventIdx, indirect, name = "device" } = options;
  const reactor = new Reactor();
  const log = new Logger({ level: options.logLevel });
  let host: DeviceHost;
  try {
    using start = new StartWatch([name], Deno.pid, log);
    host = await DeviceHost.start(
      {
        name,
        type: name,
        module: moduleUrl(device),
        options: options.options ?? {},
        socket,
        mode,
        workers: options.workers,
        workerGroup: options.workerGroup,
        poll: options.poll,
        eventIdx,
        indirect,
        packed: options.packed,
        inOrder: options.inOrder,
        lockPatience: options.lockPatience,
      },
      log,
      reactor,
      POOL,
      undefined,
      (what) => start.making(name, what),
    );
    start.started();
  } catch (error) {
    reactor.close();
    throw error;
  }
  const signals: Deno.Signal[] = options.signals === false
    ? []
    : ["SIGINT", "SIGTERM"];
  const onSignal = () => void stop();
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);

  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= host.stop().finally(() => {
      for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
      reactor.close();
    });
    return stopping;
  };
  const finished = Promise.race([
    host.done.then(stop),
    host.failed.then(async (error) => {
      // What ends badly now does so because of this error.
      await stop().catch(() => {});
      throw error;
    }),
  ]);
  return {
    finished,
    status: () => host.status(),
    command: (name, parameters = {}) => host.command(name, parameters),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** The URL of a device module: what is none already is a path. */
function moduleUrl(device: string | URL): string {
  if (device instanceof URL || URL.canParse(device)) return String(device);
  return toFileUrl(resolve(device)).href;
}
