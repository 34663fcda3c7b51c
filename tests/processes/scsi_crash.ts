/**
 * A guest whose SCSI host is killed while COMPARE AND WRITEs are in flight.
 *
 * Theory of operation
 * -------------------
 * Each block of the disk has a number, and a COMPARE AND WRITE replaces it by the
 * next one. The guest's memory, its ring and the area in which requests in flight
 * are tracked live through every kill. One that was done and then done again would
 * find its own work and miscompare; so that must never come. One that the next
 * server finds in flight is answered with ABORTED COMMAND, and may have been done
 * or not: its block is read.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { parseAnswer, requestHead } from "../../backends/scsi/testing/bench.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { InflightMemory } from "../../vhost/testing/inflight_memory.ts";
import {
  FakeDriver,
  FakeMemory,
  type RingDriver,
} from "../../virtqueue/testing/driver.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { GUEST_BASE } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";

const RING_SIZE = 64, REQUESTS = 2, RINGS = 3;
/** Of a packed ring: no power of two, so that laps end anywhere. */
const PACKED_SIZE = 51;
/** Bytes of a block. */
export const BLOCK = 512;
const LIMIT = 30_000;
const UNIT_ATTENTION = 6, ABORTED_COMMAND = 0xb;
const CLEARED = 0x2f02;

/** A command in flight. */
interface Flying {
  readonly block: number;
  readonly kind: "compare" | "read";
}

/** The guest. */
export class CompareGuest implements Disposable {
  /** COMPARE AND WRITEs that were done. */
  done = 0;
  /** Those that were answered with ABORTED COMMAND; of them, those done. */
  aborted = 0;
  abortedAndDone = 0;
  /** Unit attention conditions that were told. */
  attentions = 0;
  readonly #region = SharedRegion.create(GUEST_BASE, 4 << 20);
  readonly #memory = new FakeMemory([this.#region]);
  readonly #flying = new Map<number, Flying>();
  /** The number of each block. */
  readonly #numbers: number[];
  /** Blocks whose number has to be read. */
  readonly #unknown = new Set<number>();
  readonly #idle: number[];
  readonly #packed: boolean;
  #driver: RingDriver | null = null;
  #area: InflightMemory | null = null;
  #frontEnd: FrontEnd | null = null;

  /** A guest of a disk of so many blocks. */
  constructor(blocks: number, packed: boolean) {
    this.#packed = packed;
    this.#numbers = new Array(blocks).fill(0);
    this.#idle = Array.from({ length: blocks }, (_, i) => i);
  }

  /** Commands in flight. */
  get inFlight(): number {
    return this.#flying.size;
  }

  /** Connects as soon as there is a server, and goes on. */
  async connect(socket: string): Promise<void> {
    this.#frontEnd?.close();
    await waitUntil(() => {
      try {
        this.#frontEnd = FrontEnd.connect(socket);
        return true;
      } catch {
        return false;
      }
    }, { what: `a server on ${socket}`, timeout: LIMIT, interval: 2 });
    const frontEnd = this.#frontEnd!;
    await frontEnd.handshake({ packed: this.#packed });
    const eventIdx = (frontEnd.features >> 29n & 1n) === 1n;
    this.#driver ??= this.#packed
      ? new FakePackedDriver(this.#memory, { size: PACKED_SIZE, eventIdx })
      : new FakeDriver(this.#memory, { size: RING_SIZE, eventIdx });
    this.#area ??= await InflightMemory.get(frontEnd, RINGS, RING_SIZE);
    await this.#area.set(frontEnd);
    const rings = new Map([[REQUESTS, this.#driver]]);
    await frontEnd.start([this.#region], rings, {
      // All that QEMU knows: of a packed ring, where it began.
      positions: {
        [REQUESTS]: this.#driver instanceof FakeDriver
          ? this.#driver.usedIndex
          : this.#driver.start,
      },
    });
  }

  /** Submits for idle blocks, and takes what has been answered. */
  turn(submitting = true): void {
    this.#reap();
    for (const block of this.#unknown) this.#read(block);
    this.#unknown.clear();
    while (submitting && this.#idle.length > 0) {
      this.#compare(this.#idle.shift()!);
    }
    if (this.#driver!.kickNeeded()) this.#frontEnd!.kick(REQUESTS);
  }

  /** Waits for everything in flight, and submits nothing more. */
  async finish(): Promise<void> {
    await waitUntil(() => {
      this.turn(false);
      return this.#flying.size === 0 && this.#unknown.size === 0;
    }, { what: "the answers", timeout: LIMIT, interval: 1 });
    await this.#frontEnd!.stop();
  }

  /** Compares an image with what it must hold. */
  check(image: Uint8Array): void {
    for (const [block, number] of this.#numbers.entries()) {
      const found = image.subarray(block * BLOCK, (block + 1) * BLOCK);
      assertEquals(found, contents(number), `block ${block}`);
    }
  }

  #compare(block: number): void {
    const number = this.#numbers[block];
    const out = new Uint8Array(2 * BLOCK);
    out.set(contents(number));
    out.set(contents(number + 1), BLOCK);
    const cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, block, 0, 0, 0, 1, 0, 0];
    this.#submit({ block, kind: "compare" }, [
      { readable: requestHead(cdb) },
      { readable: out },
      { writable: 108 },
    ]);
  }

  #read(block: number): void {
    const cdb = [0x28, 0, 0, 0, 0, block, 0, 0, 1, 0];
    this.#submit({ block, kind: "read" }, [
      { readable: requestHead(cdb) },
      { writable: 108 },
      { writable: BLOCK },
    ]);
  }

  #submit(
    flying: Flying,
    buffers: Parameters<RingDriver["submit"]>[0],
  ): void {
    const token = this.#driver!.submit(buffers, { indirect: true });
    assert(token >= 0, "the ring is full");
    this.#flying.set(token, flying);
  }

  #reap(): void {
    for (const completion of this.#driver!.reap()) {
      const flying = this.#flying.get(completion.token);
      assert(flying !== undefined, "an answer to nothing");
      this.#flying.delete(completion.token);
      const { response, status, sense, data } = parseAnswer(completion);
      const { block, kind } = flying;
      assertEquals(response, 0);
      if (status === 0) {
        if (kind === "compare") {
          this.#numbers[block]++;
          this.done++;
        } else this.#learn(block, data);
        this.#idle.push(block);
      } else if (sense?.key === UNIT_ATTENTION) {
        // It was not done.
        this.attentions++;
        if (kind === "read") this.#unknown.add(block);
        else this.#idle.push(block);
      } else {
        assertEquals(sense, { key: ABORTED_COMMAND, asc: CLEARED }, kind);
        this.aborted++;
        this.#unknown.add(block);
      }
    }
  }

  /** What an aborted COMPARE AND WRITE left: the old number or the new one. */
  #learn(block: number, data: Uint8Array): void {
    const before = this.#numbers[block];
    const [found] = new Uint32Array(data.slice(0, 4).buffer);
    assert(found === before || found === before + 1, `${before}, ${found}`);
    assertEquals(data, contents(found));
    this.#numbers[block] = found;
    if (found > before) this.abortedAndDone++;
  }

  [Symbol.dispose](): void {
    this.#frontEnd?.close();
    this.#area?.[Symbol.dispose]();
    this.#region[Symbol.dispose]();
  }
}

/** What a block with a number holds. */
function contents(number: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(BLOCK / 4).fill(number);
  return new Uint8Array(words.buffer);
}
