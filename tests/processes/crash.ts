/**
 * A disk whose server is killed again and again, and a guest that must not
 * notice.
 *
 * Theory of operation
 * -------------------
 * The guest's memory, its ring and the area in which requests in flight are
 * tracked belong to the test, and live through every kill, as they do in a
 * virtual machine. A model knows what each sector holds: the data of the last
 * write that was answered, or one of two while a write is in flight. Requests
 * never meet in a sector, since a guest may not expect an order then. So whatever
 * a server forgets, does twice to the guest, or writes elsewhere is found: by the
 * driver (an answer to nothing), by a read, by the wait for an answer that does
 * not come, or in the image in the end.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { mapFile, type Mapping } from "../../sys/mapping.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { InflightMemory } from "../../vhost/testing/inflight_memory.ts";
import {
  FakeDriver,
  FakeMemory,
  type RingDriver,
} from "../../virtqueue/testing/driver.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { packedInflightSize } from "../../virtqueue/packed_inflight.ts";
import {
  GUEST_BASE,
  header,
  SECTOR,
  T_FLUSH,
  T_IN,
  T_OUT,
} from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { stamp } from "./load.ts";

const RING_SIZE = 128;
/** Of a packed ring: no power of two, so that laps end anywhere. */
const PACKED_SIZE = 101;
/** Sectors of a request, at most. */
const MOST_SECTORS = 8;
/** One request in so many is a flush. */
const FLUSHES = 16;

interface Request {
  readonly type: number;
  readonly sector: number;
  readonly count: number;
  readonly generation: number;
}

/** How a {@linkcode CrashGuest} behaves. */
export interface CrashGuestOptions {
  /** Requests to keep in flight. */
  readonly depth: number;
  /** Sectors of the disk. */
  readonly sectors: number;
  /** Of the random numbers. */
  readonly seed: number;
  /** Whether the ring is a packed one (default false). */
  readonly packed?: boolean;
  /** Whether answers come in order (default false). */
  readonly inOrder?: boolean;
  /** Whether requests are indirect tables (default true), or three descriptors. */
  readonly indirect?: boolean;
}

/** A guest that goes on where a server died. */
export class CrashGuest implements Disposable {
  /** Requests that were answered. */
  answered = 0;
  readonly #options: CrashGuestOptions;
  readonly #region = SharedRegion.create(GUEST_BASE, 8 << 20);
  readonly #memory = new FakeMemory([this.#region]);
  #driver: RingDriver | null = null;
  #area: InflightMemory | null = null;
  #tracked: Mapping | null = null;
  #frontEnd: FrontEnd | null = null;
  readonly #flying = new Map<number, Request>();
  readonly #busy = new Set<number>();
  /** The generation of the data of each sector; 0: none was written. */
  readonly #model: Uint32Array;
  #generation = 0;
  #random: number;
  #lastAnswer = performance.now();

  /** A guest that is not connected yet. */
  constructor(options: CrashGuestOptions) {
    this.#options = options;
    this.#model = new Uint32Array(options.sectors);
    this.#random = options.seed;
  }

  /** Connects to a server as soon as there is one, and goes on. */
  async connect(socket: string): Promise<void> {
    this.#frontEnd?.close();
    const frontEnd = await reach(socket);
    this.#frontEnd = frontEnd;
    const { packed = false, inOrder } = this.#options;
    await frontEnd.handshake({ packed, inOrder });
    if (this.#driver === null || this.#area === null) {
      const eventIdx = (frontEnd.features >> 29n & 1n) === 1n;
      this.#driver = packed
        ? new FakePackedDriver(this.#memory, { size: PACKED_SIZE, eventIdx })
        : new FakeDriver(this.#memory, { size: RING_SIZE, eventIdx });
      this.#area = await InflightMemory.get(frontEnd, 1, RING_SIZE);
      this.#tracked = mapFile(this.#area.fd, {
        size: packedInflightSize(RING_SIZE),
      });
    }
    await this.#area.set(frontEnd);
    await frontEnd.start([this.#region], new Map([[0, this.#driver]]), {
      // All that QEMU knows after the death of a back-end: of a packed ring,
      // where it began.
      positions: {
        0: this.#driver instanceof FakeDriver
          ? this.#driver.usedIndex
          : this.#driver.start,
      },
    });
    this.#lastAnswer = performance.now();
  }

  /** Requests that the server had taken and not answered when it died. */
  get trackedRequests(): number {
    const bytes = new Uint8Array(this.#tracked!.buffer);
    const entry = this.#options.packed ? 32 : 16;
    let count = 0;
    for (let head = 0; head < RING_SIZE; head++) {
      if (bytes[entry * (head + 1)] === 1) count++;
    }
    return count;
  }

  /** Takes answers and submits, until `end` says that it is enough. */
  async run(end: () => boolean): Promise<void> {
    while (!end()) {
      this.#reap();
      while (this.#flying.size < this.#options.depth) this.#submit();
      await this.#turn();
    }
  }

  /** Waits for what is in flight, and submits no more. */
  async finish(): Promise<void> {
    while (this.#flying.size > 0) {
      this.#reap();
      await this.#turn();
    }
  }

  /** Takes the answers that a server gave before it ended. */
  settle(): void {
    this.#reap();
  }

  /** Leaves in order. */
  async leave(): Promise<void> {
    await this.#frontEnd!.getVringBase(0);
    assertEquals(this.trackedRequests, 0, "tracked after an orderly stop");
    await this.#frontEnd!.stop();
    this.#frontEnd!.close();
  }

  /** Compares an image with what it must hold. */
  check(image: string): void {
    const bytes = Deno.readFileSync(image);
    for (const [sector, generation] of this.#model.entries()) {
      const found = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      assertEquals(found, contents(sector, generation), `sector ${sector}`);
    }
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve));
    const waited = performance.now() - this.#lastAnswer;
    assert(waited < 30_000, `${this.#flying.size} requests are lost`);
  }

  #submit(): void {
    const request = this.#next();
    const { type, sector, count, generation } = request;
    const data = type === T_OUT
      ? [{ readable: stamps(sector, count, generation) }]
      : type === T_IN
      ? [{ writable: count * SECTOR }]
      : [];
    const token = this.#driver!.submit([
      { readable: header(type, sector) },
      ...data,
      { writable: 1 },
    ], { indirect: this.#options.indirect ?? true });
    assert(token >= 0);
    this.#flying.set(token, request);
    if (this.#driver!.kickNeeded()) this.#frontEnd!.kick(0);
  }

  /** A request for sectors that no other one in flight is for. */
  #next(): Request {
    if (this.#integer(FLUSHES) === 0) {
      return { type: T_FLUSH, sector: 0, count: 0, generation: 0 };
    }
    const type = this.#integer(3) === 0 ? T_IN : T_OUT;
    const count = 1 + this.#integer(MOST_SECTORS);
    for (;;) {
      const sector = this.#integer(this.#options.sectors - count + 1);
      const wanted = Array.from({ length: count }, (_, i) => sector + i);
      if (wanted.some((sector) => this.#busy.has(sector))) continue;
      for (const each of wanted) this.#busy.add(each);
      return { type, sector, count, generation: ++this.#generation };
    }
  }

  #reap(): void {
    for (const { token, data } of this.#driver!.reap()) {
      const request = this.#flying.get(token);
      assert(request !== undefined, `an answer to nothing: ${token}`);
      this.#flying.delete(token);
      const { type, sector, count, generation } = request;
      assertEquals(data.at(-1), 0, "status");
      for (let i = 0; i < count; i++) {
        this.#busy.delete(sector + i);
        if (type === T_OUT) this.#model[sector + i] = generation;
        else {
          assertEquals(
            data.subarray(i * SECTOR, (i + 1) * SECTOR),
            contents(sector + i, this.#model[sector + i]),
            `sector ${sector + i}`,
          );
        }
      }
      this.answered++;
      this.#lastAnswer = performance.now();
    }
  }

  /** A random integer below `limit`. */
  #integer(limit: number): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return (x >>> 0) % limit;
  }

  [Symbol.dispose](): void {
    this.#frontEnd?.close();
    this.#tracked?.unmap();
    this.#area?.[Symbol.dispose]();
    this.#region[Symbol.dispose]();
  }
}

/** What a sector holds that was written in a generation. */
function contents(sector: number, generation: number): Uint8Array {
  return generation === 0 ? new Uint8Array(SECTOR) : stamp(sector, generation);
}

function stamps(
  sector: number,
  count: number,
  generation: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count * SECTOR);
  for (let i = 0; i < count; i++) {
    bytes.set(stamp(sector + i, generation), i * SECTOR);
  }
  return bytes;
}

/** Connects as soon as somebody listens. */
async function reach(socket: string): Promise<FrontEnd> {
  let frontEnd: FrontEnd | null = null;
  await waitUntil(() => {
    try {
      frontEnd = FrontEnd.connect(socket);
      return true;
    } catch {
      return false;
    }
  }, { what: `a server on ${socket}`, timeout: 30_000, interval: 2 });
  return frontEnd!;
}
