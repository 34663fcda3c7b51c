/**
 * What the driver of a packed ring does in an input: keep the rules, or not.
 *
 * @module
 */

import type { Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { QueueDriver } from "../queue/driver.ts";
import { TABLE } from "../queue/layout.ts";
import type { RingPlace } from "../queue/options.ts";
import { addressOf, lengthOf, type Places } from "../ring/program.ts";

const NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15;
/** Flags of descriptors beside the marks. */
const FLAGS = [0, 1, 2, 3, 1, 3, 4, 5, 6, 7, 0x7f78, 2] as const;

/** The driver of a packed ring. It counts places from lap 0 on. */
export class PackedDriver extends QueueDriver {
  /** The next descriptor to make available. */
  at: number;

  /**
   * Fills the ring with the marks that it has after as many laps.
   *
   * @param say where it is printed what the driver does
   */
  constructor(
    memory: FuzzMemory,
    places: Places,
    ring: RingPlace,
    at: number,
    say: Observer["say"],
  ) {
    super(memory, places, ring, say);
    this.at = at;
    const { size, descriptorTable } = ring;
    for (let entry = 0; entry < size; entry++) {
      // The entries before belong to this lap, those behind to the one before.
      const lap = Math.floor(at / size) - (entry < at % size ? 0 : 1);
      const marks = lap % 2 === 0 ? AVAIL | USED : 0;
      memory.driverPut(descriptorTable + 16n * BigInt(entry) + 14n, 2, marks);
    }
  }

  /** Writes a descriptor, whatever it says. */
  descriptor(
    a: number,
    b: number,
    c: number,
    d: number,
    e: number,
    f: number,
  ): void {
    const { size, descriptorTable } = this.ring;
    const inTable = (a & 0x80) !== 0;
    // At the place where the driver is, often.
    const place = this.at + (a >> 4 & 3);
    const which = (a & 0x40) !== 0 ? a % size : place % size;
    const at = inTable
      ? TABLE + 16n * BigInt(a % 32)
      : descriptorTable + 16n * BigInt(which);
    const marks = f >>> 16 & 7;
    const flags = FLAGS[f % FLAGS.length] ^
      (marks < 5 ? this.#marks(place) : marks < 6 ? AVAIL | USED : AVAIL);
    this.#put(
      at,
      addressOf(this.places, b, d),
      lengthOf(c, e),
      flags,
      this.#id(f >>> 8),
    );
    if (!inTable && marks < 4 && (a & 0x40) === 0) this.at++;
  }

  /**
   * A chain that keeps the rules, but for where its buffers are; its first
   * descriptor becomes available last.
   */
  chain(a: number, b: number, c: number, d: number, e: number): void {
    const { size, descriptorTable } = this.ring;
    const wanted = 1 + a % 6;
    const indirect = (c & 1) !== 0;
    const count = indirect ? wanted : Math.min(wanted, size);
    const readable = (c >> 3) % (count + 1);
    const table = this.table(c);
    const id = this.#id(b);
    for (let i = 0; i < count; i++) {
      const last = i === count - 1;
      const place = this.at + i;
      const flags = (i >= readable ? WRITE : 0) | (last || indirect ? 0 : NEXT);
      this.#put(
        indirect
          ? table + 16n * BigInt(i)
          : descriptorTable + 16n * BigInt(place % size),
        addressOf(this.places, d & 15, (d >> 4) + 48 * i),
        lengthOf(e & 7, (e >> 3) + i),
        indirect ? flags : flags | this.#marks(place),
        id,
      );
    }
    if (indirect) {
      const at = descriptorTable + 16n * BigInt(this.at % size);
      const flags = INDIRECT | this.#marks(this.at);
      this.#put(at, table, 16 * count, flags, id);
    }
    this.say?.(
      `chain of ${count} with id ${id} at ${this.at}, ${readable} readable` +
        (indirect ? `, table at 0x${table.toString(16)}` : ""),
    );
    this.at += indirect ? 1 : count;
  }

  /** What a ring with wrap counters has to offer is chains. */
  offer(a: number, b: number, c: number, d: number, e: number): void {
    this.chain(a, b, c, d, e);
  }

  /**
   * Marks a descriptor that the device is about to see available or not, or goes
   * on elsewhere, as a driver does that forgot where it was.
   */
  jump(next: number, a: number, b: number): void {
    if ((a & 0x80) === 0) return this.#mark(next + b % 4, a % 4 !== 0);
    this.at = next + (b < 0xc0 ? 0 : b % 8);
    this.say?.(`the driver goes on at ${this.at}`);
  }

  /** Writes the driver event suppression structure. */
  event(used: number, a: number, d: number): void {
    const { availableRing, size } = this.ring;
    const place = Math.max(0, used + d % 16 - 8);
    const wrap = Math.floor(place / size) % 2 === 0 ? 32768 : 0;
    const where = d < 0xf000 ? place % size | wrap : d;
    this.memory.driverPut(availableRing, 2, where);
    this.memory.driverPut(availableRing + 2n, 2, a < 0xc0 ? 2 : a);
    this.say?.(`driver event becomes ${where}, ${a < 0xc0 ? 2 : a}`);
  }

  /** Marks the descriptor at a place available, or takes the mark away. */
  #mark(place: number, available: boolean): void {
    const { size, descriptorTable } = this.ring;
    const at = descriptorTable + 16n * BigInt(place % size) + 14n;
    const flags = this.memory.read(at, 2) & ~(AVAIL | USED);
    const marks = available ? this.#marks(place) : 0;
    this.memory.driverPut(at, 2, flags | marks);
    this.say?.(`${place} becomes ${available ? "" : "not "}available`);
  }

  #marks(place: number): number {
    const { size } = this.ring;
    return Math.floor(place / size) % 2 === 0 ? AVAIL : USED;
  }

  #id(byte: number): number {
    const value = byte & 0xff;
    return value < 0xf0 ? value % this.ring.size : value * 257;
  }

  #put(
    at: bigint,
    address: bigint,
    length: number,
    flags: number,
    id: number,
  ): void {
    const memory = this.memory;
    memory.driverPut(at, 8, address);
    memory.driverPut(at + 8n, 4, length);
    memory.driverPut(at + 12n, 2, id);
    memory.driverPut(at + 14n, 2, flags);
    this.say?.(
      `descriptor 0x${at.toString(16)}: ${length} at 0x${
        address.toString(16)
      }, flags 0x${flags.toString(16)}, id ${id}`,
    );
  }
}
