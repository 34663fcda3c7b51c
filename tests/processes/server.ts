/**
 * The command `serve` with several disks, seen from outside: its status over the
 * management socket, its log, and its processes by /proc.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { ManagementClient } from "../../host/management/client.ts";
import { Reactor } from "../../sys/reactor.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { SECTOR } from "../protocol/disk.ts";

/** How long (ms) things may take: no test waits for it to pass. */
export const LIMIT = 30_000;

/** What `status` says of a disk, as far as these tests look at it. */
export interface DiskStatus {
  readonly name: string;
  readonly state: "running" | "restarting" | "failed";
  readonly process: string | null;
  readonly pid: number | null;
  readonly rss: number | null;
  readonly restarts: number;
  readonly lastExit: string | null;
  readonly problem: string | null;
  readonly connected: boolean;
}

/** How to start a {@linkcode Server}. */
export interface ServerOptions {
  /** A disk for each: its name, and more keys of `--blk`. */
  readonly disks: Readonly<Record<string, string>>;
  /** More arguments of `serve`. */
  readonly args?: readonly string[];
  /** Sectors of each image (default 8192). */
  readonly sectors?: number;
  /** Command that runs the runtime. */
  readonly wrapper?: readonly string[];
  /** Where the images and sockets are; default: a directory of its own. */
  readonly directory?: TemporaryDirectory;
}

/** A running `serve`. */
export class Server implements AsyncDisposable {
  /** The process that was started. */
  readonly child: ChildProcess;
  readonly #directory: TemporaryDirectory;
  readonly #ownsDirectory: boolean;
  readonly #reactor = new Reactor();

  private constructor(
    child: ChildProcess,
    directory: TemporaryDirectory,
    ownsDirectory: boolean,
  ) {
    this.child = child;
    this.#directory = directory;
    this.#ownsDirectory = ownsDirectory;
  }

  /** Makes the images that are not there, and waits until all are served. */
  static async start(options: ServerOptions): Promise<Server> {
    const { disks, args = [], sectors = 8192, wrapper = [] } = options;
    const directory = options.directory ?? TemporaryDirectory.make("procs");
    const blk = Object.entries(disks).map(([name, keys]) => {
      const image = directory.file(`${name}.img`);
      using file = Deno.openSync(image, { write: true, create: true });
      file.truncateSync(sectors * SECTOR);
      const socket = directory.file(`${name}.sock`);
      return `--blk=path=${image},id=${name},socket=${socket}` +
        (keys && `,${keys}`);
    });
    const [command, ...before] = [...wrapper, Deno.execPath()];
    const management = `--management=${directory.file("management")}`;
    const child = ChildProcess.start(command, {
      name: "vhostd",
      env: { NO_COLOR: "1" },
      args: [
        ...before,
        ...COMMAND_ARGUMENTS,
        "serve",
        management,
        ...blk,
        ...args,
      ],
    });
    const server = new Server(
      child,
      directory,
      options.directory === undefined,
    );
    try {
      await child.expect("Stop with Ctrl-C", LIMIT, "stdout");
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Path of the socket of a disk. */
  socket(name: string): string {
    return this.#directory.file(`${name}.sock`);
  }

  /** Path of the image of a disk. */
  image(name: string): string {
    return this.#directory.file(`${name}.img`);
  }

  /** Names of the sockets that are there. */
  sockets(): string[] {
    return [...Deno.readDirSync(this.#directory.path)]
      .map(({ name }) => name).filter((name) => !name.endsWith(".img")).sort();
  }

  /** Calls a management method. */
  async call(
    method: string,
    params: Readonly<Record<string, unknown>>,
  ): Promise<unknown> {
    const path = this.#directory.file("management");
    using client = ManagementClient.connect(path, this.#reactor);
    return await client.call(method, params, LIMIT);
  }

  /** The status of a disk. */
  async status(name: string): Promise<DiskStatus> {
    const { devices } = await this.call("status", { name }) as {
      devices: DiskStatus[];
    };
    return devices[0];
  }

  /** The process that serves a disk. */
  async pid(name: string): Promise<number> {
    const { pid, state } = await this.status(name);
    if (pid !== null) return pid;
    throw new Error(`"${name}" is ${state}`);
  }

  /** Waits until a disk is in a state, its process restarted that often. */
  async until(
    name: string,
    state: DiskStatus["state"],
    restarts = 0,
  ): Promise<DiskStatus> {
    let last: DiskStatus | null = null;
    await waitUntil(async () => {
      last = await this.status(name);
      return last.state === state && last.restarts >= restarts;
    }, { what: `"${name}" to be ${state}`, timeout: LIMIT });
    return last!;
  }

  /** Waits for the end of the command, and checks its exit code. */
  async ended(code = 0): Promise<void> {
    const status = await this.child.wait(LIMIT);
    assertEquals(status.code, code, this.child.stderr.text);
  }

  /** Stops the command, whatever it takes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#reactor.close();
    try {
      await this.child.stop("SIGTERM", LIMIT);
    } finally {
      if (this.#ownsDirectory) this.#directory[Symbol.dispose]();
    }
  }
}

/** True when there is no such process any more, or nothing but its status. */
export function isGone(pid: number): boolean {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}
