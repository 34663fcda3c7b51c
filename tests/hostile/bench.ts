/**
 * What every attack is measured by: a vhostd process with a disk that is
 * attacked and one that is not.
 *
 * Theory of operation. While an attack runs, a bystander writes and reads the
 * second disk and verifies each byte. After it, the process must hold exactly
 * what it held before, a fresh guest must get verified I/O from the attacked
 * disk, and its image must hold what it held before.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { equals } from "@std/bytes";
import {
  Guest,
  SECTOR,
  stampedImage,
  T_FLUSH,
  T_IN,
  T_OUT,
} from "../protocol/disk.ts";
import {
  type DiskSpec,
  type Holdings,
  VhostdProcess,
} from "../protocol/vhostd_process.ts";
import { Histogram } from "../bench/histogram.ts";
import { waitUntil } from "../support/deadline.ts";

/** Sectors of each disk. */
export const SECTORS = 512;
/** First of the sectors that well-behaved guests write to. */
export const SCRATCH = 256;
/** Their number. */
export const SCRATCH_SECTORS = 64;

/** The disk that is attacked: two queues, and the engine that is the default. */
export const VICTIM = "victim";
/** As {@linkcode VICTIM}, with the engine of plain system calls. */
export const SYNC = "sync";
/** As {@linkcode VICTIM}, but read-only. */
export const READ_ONLY = "read-only";
/** As {@linkcode VICTIM}, but with one queue. */
export const SINGLE = "single";
/** The disk whose guest behaves well. */
export const BYSTANDER = "bystander";

const DISKS: readonly DiskSpec[] = [
  { name: BYSTANDER },
  { name: VICTIM, keys: "queues=2" },
  { name: SYNC, keys: "queues=2,engine=sync" },
  { name: READ_ONLY, keys: "queues=2,readonly=on" },
  { name: SINGLE },
];

/** What an attack may do. */
export interface AttackOptions {
  /** The disk that is attacked (default: {@linkcode VICTIM}). */
  readonly disk?: string;
  /** It may write scratch sectors. */
  readonly writes?: boolean;
}

/** Verified I/O without end, one request at a time. */
class Bystander {
  /** Rounds of a write and a read that were verified. */
  rounds = 0;
  #running = true;
  readonly #done: Promise<void>;

  /** @param latencies takes the time of each round */
  constructor(readonly guest: Guest, readonly latencies: Histogram) {
    this.#done = this.#run();
    this.#done.catch(() => {});
  }

  async #run(): Promise<void> {
    do {
      const start = performance.now();
      await verifyTransfer(this.guest, this.rounds % SCRATCH_SECTORS);
      this.latencies.record((performance.now() - start) * 1e6);
      this.rounds++;
    } while (this.#running);
  }

  /** Ends the round that is under way; how many there were. */
  async stop(): Promise<number> {
    this.#running = false;
    await this.#done;
    return this.rounds;
  }
}

/** Writes a scratch sector, reads it again, and reads a stamped one. */
async function verifyTransfer(guest: Guest, index: number): Promise<void> {
  const data = crypto.getRandomValues(new Uint8Array(SECTOR));
  const write = await guest.request(T_OUT, SCRATCH + index, data);
  assertEquals([write.status, write.length], [0, 1]);
  const read = await guest.request(T_IN, SCRATCH + index, SECTOR);
  assertEquals([read.status, read.length], [0, SECTOR + 1]);
  assertEquals(read.data, data);
  const stamped = await guest.request(T_IN, index, SECTOR);
  assertEquals(stamped.status, 0);
  assertEquals(new Uint32Array(stamped.data.slice().buffer)[0], index);
}

/** The disks, and what the process holds while nobody attacks. */
export class HostileBench implements AsyncDisposable {
  readonly server: VhostdProcess;
  readonly #bystander: Guest;
  /** Times of the bystander's rounds while others attacked. */
  readonly #latencies = new Histogram();
  readonly #stamped = stampedImage(SECTORS);
  /** What the scratch sectors of each disk hold. */
  readonly #scratch = new Map<string, Uint8Array>();
  #quiet: Holdings = { descriptors: 0, mappings: 0 };

  private constructor(server: VhostdProcess, bystander: Guest) {
    this.server = server;
    this.#bystander = bystander;
  }

  /** Starts the process, and the bystander. */
  static async start(): Promise<HostileBench> {
    const server = await VhostdProcess.start({
      disks: DISKS.map((disk) => ({ ...disk, sectors: SECTORS })),
    });
    try {
      const guest = await Guest.run(server.socket(BYSTANDER));
      const bench = new HostileBench(server, guest);
      await bench.#warmUp();
      return bench;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Makes what is made once, so that what is held can be counted. */
  async #warmUp(): Promise<void> {
    await verifyTransfer(this.#bystander, 0);
    for (const { name } of DISKS.slice(1)) {
      using guest = await Guest.run(this.server.socket(name));
      assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
      this.#scratch.set(name, this.#scratchOf(name));
    }
    for (const { name } of DISKS.slice(1)) await this.left(name);
    this.#quiet = await this.server.settledHoldings();
  }

  /**
   * Runs an attack on a disk while the bystander works, then asserts that
   * nothing is left of it.
   *
   * @param attack has closed its connections when it is over
   */
  async attack(
    attack: () => Promise<void>,
    options: AttackOptions = {},
  ): Promise<void> {
    const bystander = new Bystander(this.#bystander, this.#latencies);
    try {
      await attack();
    } finally {
      assert(await bystander.stop() > 0);
    }
    await this.#recovered(options);
  }

  /** Waits until a disk has no front-end. */
  async left(disk: string = VICTIM): Promise<void> {
    await waitUntil(
      async () => !(await this.server.status(disk)).connected,
      { what: `"${disk}" to be without a front-end`, interval: 2 },
    );
  }

  /** Asserts that nothing is left of an attack. */
  async #recovered(options: AttackOptions): Promise<void> {
    const { disk = VICTIM, writes = false } = options;
    const { server } = this;
    assert(!server.child.ended, server.child.stderr.text);
    await this.left(disk);
    await server.assertHolds(this.#quiet);
    if (writes) this.#scratch.set(disk, this.#scratchOf(disk));
    this.#assertImage(disk);
    {
      using guest = await Guest.run(server.socket(disk));
      if (disk === READ_ONLY) {
        const read = await guest.request(T_IN, 3, SECTOR);
        assertEquals(new Uint32Array(read.data.slice().buffer)[0], 3);
      } else {
        await verifyTransfer(guest, 1);
        assertEquals((await guest.request(T_FLUSH, 0)).status, 0);
      }
    }
    await this.left(disk);
    this.#scratch.set(disk, this.#scratchOf(disk));
    await this.#assertBystander();
  }

  /** Nothing of an image but what well-behaved guests wrote has changed. */
  #assertImage(disk: string): void {
    const image = Deno.readFileSync(this.server.image(disk));
    const expected = this.#stamped.slice();
    expected.set(this.#scratch.get(disk)!, SCRATCH * SECTOR);
    if (equals(image, expected)) return;
    const changed = image.findIndex((byte, i) => byte !== expected[i]);
    throw new Error(`Byte ${changed} of the image of "${disk}" changed`);
  }

  #scratchOf(disk: string): Uint8Array<ArrayBuffer> {
    const at = SCRATCH * SECTOR;
    return Deno.readFileSync(this.server.image(disk))
      .slice(at, at + SCRATCH_SECTORS * SECTOR);
  }

  /** The bystander's disk has met no error, of whatever kind. */
  async #assertBystander(): Promise<void> {
    const { restarts, connections, session, rings, device } = await this.server
      .status(BYSTANDER);
    assertEquals([restarts, connections], [0, 1]);
    assertEquals([session?.refused, session?.ignored], [0, 0]);
    assertEquals(session?.lastError, null);
    assertEquals([rings[0].badChains, rings[0].broken], [0, null]);
    assertEquals([device.requests.errors, device.requests.refused], [{}, {}]);
  }

  /** How long a round of three requests took the bystander. */
  report(): string {
    const ms = (share: number) =>
      (this.#latencies.percentile(share) / 1e6).toFixed(2);
    return `bystander: ${this.#latencies.total} rounds without an error while ` +
      `others attacked, p50 ${ms(0.5)} ms, p99 ${ms(0.99)} ms`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#bystander[Symbol.dispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

/**
 * One bench for all tests of a file.
 *
 * @returns the bench, once the tests run
 */
export function useBench(): () => HostileBench {
  let bench: HostileBench | undefined;
  Deno.test.beforeAll(async () => {
    bench = await HostileBench.start();
  });
  Deno.test.afterAll(async () => {
    if (bench !== undefined) console.log(bench.report());
    await bench?.[Symbol.asyncDispose]();
  });
  return () => {
    if (bench === undefined) throw new Error("The bench did not start");
    return bench;
  };
}
