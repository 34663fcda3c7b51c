/**
 * A vhostd that serves several disks, seen from outside: its status over the
 * management socket, and what its processes hold and use by /proc.
 *
 * Unless it is told otherwise all disks share one device process: what one of
 * them suffers could then do harm to the others.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { ManagementClient } from "../../host/management/client.ts";
import { Reactor } from "../../sys/reactor.ts";
import { waitUntil, withDeadline } from "../support/deadline.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { stampedImage } from "./disk.ts";

/** One disk to serve. */
export interface DiskSpec {
  /** Its name, and that of its image and socket. */
  readonly name: string;
  /** Size in sectors (default 2048), each stamped with its number. */
  readonly sectors?: number;
  /** More keys of `--blk`, `queues=2` say. */
  readonly keys?: string;
  /** The image, where the caller makes it (default: made here). */
  readonly image?: string;
}

/** How to start a {@linkcode VhostdProcess}. */
export interface VhostdProcessOptions {
  /** What to serve. */
  readonly disks: readonly DiskSpec[];
  /** Command that runs vhostd: it is followed by vhostd's own words. */
  readonly wrapper?: readonly string[];
  /** Variables for the wrapper. */
  readonly env?: Record<string, string>;
  /** Serve each disk in a process of its own (default: all in one). */
  readonly apart?: boolean;
}

/** What `status` says of a ring that runs. */
export interface RingFacts {
  readonly index: number;
  readonly inFlight: number;
  readonly completed: number;
  readonly badChains: number;
  readonly kicks: number;
  readonly notifications: number;
  readonly broken: string | null;
  readonly lastError: string | null;
}

/** What `status` says of a disk. */
export interface DiskFacts {
  /** Id of the process that serves the disk. */
  readonly pid: number;
  /** How often that process was started again. */
  readonly restarts: number;
  readonly connected: boolean;
  readonly connections: number;
  readonly refusedConnections: number;
  readonly droppedConnections: number;
  readonly lastDrop: string | null;
  readonly session: {
    readonly refused: number;
    readonly ignored: number;
    readonly lastError: string | null;
    readonly rings: readonly {
      readonly running: boolean;
      readonly activity: string;
    }[];
    readonly regions: readonly unknown[];
    readonly messages: Readonly<Record<string, number>>;
  } | null;
  readonly rings: readonly RingFacts[];
  readonly device: {
    readonly heldRequests: number;
    readonly requests: {
      readonly refused: Readonly<Record<string, number>>;
      readonly errors: Readonly<Record<string, number>>;
      readonly reads: number;
      readonly writes: number;
      readonly flushes: number;
      readonly durableWrites: number;
      readonly completed: number;
    };
  };
}

/** What a process holds. */
export interface Holdings {
  /** Open descriptors. */
  readonly descriptors: number;
  /** Mappings of guest memory that tests share. */
  readonly mappings: number;
}

/** How long (ms) one look at the status may take. */
const STATUS_TIMEOUT = 10_000;

/** Serves disks. */
export class VhostdProcess implements AsyncDisposable {
  /** The process that was started: the wrapper, where there is one. */
  readonly child: ChildProcess;
  /** Id of the supervisor. */
  readonly supervisor: number;
  /** Id of the process that serves the disks (the first one, if apart). */
  readonly pid: number;
  readonly #directory: TemporaryDirectory;
  readonly #reactor: Reactor;
  readonly #management: ManagementClient;

  private constructor(
    child: ChildProcess,
    pids: { readonly supervisor: number; readonly device: number },
    directory: TemporaryDirectory,
    reactor: Reactor,
    management: ManagementClient,
  ) {
    this.child = child;
    this.supervisor = pids.supervisor;
    this.pid = pids.device;
    this.#directory = directory;
    this.#reactor = reactor;
    this.#management = management;
  }

  /** Makes the images, starts the process, and waits until it serves all. */
  static async start(options: VhostdProcessOptions): Promise<VhostdProcess> {
    const { disks, wrapper = [], env, apart = false } = options;
    const directory = TemporaryDirectory.make("vhostd");
    const command = [...wrapper, Deno.execPath()];
    const management = directory.file("management.sock");
    const child = ChildProcess.start(command[0], {
      name: "vhostd",
      env,
      args: [
        ...command.slice(1),
        ...COMMAND_ARGUMENTS,
        "serve",
        `--management=${management}`,
        "--log-level=error",
        ...disks.map((disk) => `--blk=${keysOf(directory, disk, apart)}`),
      ],
    });
    const reactor = new Reactor();
    try {
      // The management socket comes last.
      await waitForListener(management, child, 20_000);
      const client = ManagementClient.connect(management, reactor);
      const status = await client.call("status") as {
        pid: number;
        devices: DiskFacts[];
      };
      const pids = { supervisor: status.pid, device: status.devices[0].pid };
      return new VhostdProcess(child, pids, directory, reactor, client);
    } catch (error) {
      reactor.close();
      await child.stop();
      directory[Symbol.dispose]();
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

  /** The status of a disk. */
  async status(name: string): Promise<DiskFacts> {
    const status = await this.#management.call(
      "status",
      { name },
      STATUS_TIMEOUT,
    ) as { devices: DiskFacts[] };
    return status.devices[0];
  }

  /** Makes a disk look at the size of its image again. */
  async resize(name: string): Promise<void> {
    await this.#management.call("resize", { name }, STATUS_TIMEOUT);
  }

  /** Has a disk go on that stopped on an error. */
  async resume(name: string): Promise<void> {
    await this.#management.call("resume", { name }, STATUS_TIMEOUT);
  }

  /** What the process that serves the disks holds now. */
  holdings(): Holdings {
    const maps = Deno.readTextFileSync(`/proc/${this.pid}/maps`);
    return {
      descriptors: [...Deno.readDirSync(`/proc/${this.pid}/fd`)].length,
      mappings: maps.split("\n")
        .filter((line) => line.includes("memfd:vhost-test")).length,
    };
  }

  /** What it holds once two looks, 20 ms apart, see the same. */
  async settledHoldings(): Promise<Holdings> {
    let last = this.holdings();
    await waitUntil(() => {
      const before = last;
      last = this.holdings();
      return last.descriptors === before.descriptors &&
        last.mappings === before.mappings;
    }, { what: "the descriptors to settle", interval: 20 });
    return last;
  }

  /** Asserts that it holds this, now or soon. */
  async assertHolds(expected: Holdings): Promise<void> {
    let held = this.holdings();
    await waitUntil(() => {
      held = this.holdings();
      return held.descriptors === expected.descriptors &&
        held.mappings === expected.mappings;
    }, { what: "what is held", timeout: 2_000, interval: 2 })
      .catch(() => assertEquals(held, expected));
  }

  /** Processor time used by supervisor and disks, in ticks of 10 ms. */
  processorTicks(): number {
    return ticksOf(this.pid) + ticksOf(this.supervisor);
  }

  /** Resident memory of the process that serves the disks, in bytes. */
  residentBytes(): number {
    const statm = Deno.readTextFileSync(`/proc/${this.pid}/statm`);
    return Number(statm.split(" ")[1]) * 4096;
  }

  /** Stops the process as an operator does; how it ended. */
  stop(timeout = 5_000): Promise<Deno.CommandStatus> {
    Deno.kill(this.supervisor, "SIGTERM");
    return withDeadline(this.child.status, timeout, "vhostd to stop");
  }

  /** Ends the process, whatever it takes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#management.close();
    this.#reactor.close();
    try {
      if (!this.child.ended) await this.stop();
    } finally {
      await this.child.stop("SIGKILL");
      this.#directory[Symbol.dispose]();
    }
  }
}

/** Processor time of a process, of its own and of the kernel for it. */
export function ticksOf(pid: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  // The second field is in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function keysOf(
  directory: TemporaryDirectory,
  disk: DiskSpec,
  apart: boolean,
): string {
  const { name, sectors = 2048, keys } = disk;
  let { image } = disk;
  if (image === undefined) {
    image = directory.file(`${name}.img`);
    Deno.writeFileSync(image, stampedImage(sectors));
  }
  const socket = directory.file(`${name}.sock`);
  return [`path=${image}`, `id=${name}`, `socket=${socket}`]
    .concat(apart ? [] : "process=disks", keys ?? []).join(",");
}
