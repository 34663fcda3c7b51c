/**
 * What the driver of a ring does in an input: keep the rules, or not.
 *
 * @module
 */

import type { Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { FLAGS, REGIONS, TABLE } from "./layout.ts";
import type { ModelOptions } from "./model.ts";
import { addressOf, lengthOf, type Places, putDescriptor } from "./program.ts";

/** The driver of a ring. */
export class FuzzDriver {
  readonly #memory: FuzzMemory;
  readonly #places: Places;
  readonly #options: ModelOptions;
  readonly #say: Observer["say"];

  /** @param say where it is printed what the driver does */
  constructor(
    memory: FuzzMemory,
    places: Places,
    options: ModelOptions,
    say: Observer["say"],
  ) {
    this.#memory = memory;
    this.#places = places;
    this.#options = options;
    this.#say = say;
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
    const inTable = (a & 0x80) !== 0;
    const at = inTable
      ? TABLE + 16n * BigInt(a % 32)
      : this.#options.descriptorTable + 16n * BigInt(a % this.#options.size);
    const next = f >>> 8 & 0xff;
    const descriptor = {
      address: addressOf(this.#places, b, d),
      length: lengthOf(c, e),
      flags: FLAGS[f % FLAGS.length],
      next: next < 0xf0 ? next % (this.#options.size + 2) : next * 257,
    };
    putDescriptor(this.#memory, at, descriptor);
    this.#say?.(
      `descriptor 0x${at.toString(16)}: ${descriptor.length} at 0x${
        descriptor.address.toString(16)
      }, flags ${descriptor.flags}, next ${descriptor.next}`,
    );
  }

  /** A chain that keeps the rules, but for where its buffers are. */
  chain(a: number, b: number, c: number, d: number, e: number): void {
    const { size, descriptorTable } = this.#options;
    const count = 1 + a % 6;
    const head = b % size;
    const indirect = (c & 1) !== 0;
    const readable = (c >> 3) % (count + 1);
    const table = (c & 2) !== 0
      ? BigInt(REGIONS[1][0]) - 8n * BigInt(1 + (c >> 4))
      : TABLE + ((c & 4) !== 0 ? 24n : 0n);
    for (let i = 0; i < count; i++) {
      const last = i === count - 1;
      const place = indirect ? i : (head + i) % size;
      putDescriptor(
        this.#memory,
        (indirect ? table : descriptorTable) + 16n * BigInt(place),
        {
          address: addressOf(this.#places, d & 15, (d >> 4) + 48 * i),
          length: lengthOf(e & 7, (e >> 3) + i),
          flags: (i >= readable ? 2 : 0) | (last ? 0 : 1),
          next: last ? 0 : indirect ? i + 1 : (head + i + 1) % size,
        },
      );
    }
    if (indirect) {
      const address = table, length = 16 * count;
      putDescriptor(
        this.#memory,
        descriptorTable + 16n * BigInt(head),
        { address, length, flags: 4, next: 0 },
      );
    }
    this.#say?.(
      `chain of ${count} at ${head}, ${readable} readable` +
        (indirect ? `, table at 0x${table.toString(16)}` : ""),
    );
    if ((c & 0x80) === 0) this.offer(head);
  }

  /** Makes a head available. */
  offer(head: number): void {
    const { availableRing, size } = this.#options;
    const index = this.#memory.read(availableRing + 2n, 2);
    const entry = availableRing + 4n + 2n * BigInt(index % size);
    this.#memory.driverPut(entry, 2, head);
    this.#memory.driverPut(availableRing + 2n, 2, index + 1 & 0xffff);
    this.#say?.(`head ${head} becomes available at ${index}`);
  }

  /** Sets the available index, so far ahead of the device. */
  jump(position: number, ahead: number): void {
    const { availableRing } = this.#options;
    const index = position + ahead & 0xffff;
    this.#memory.driverPut(availableRing + 2n, 2, index);
    this.#say?.(`available index becomes ${index}`);
  }

  /** Writes anything anywhere. */
  poke(a: number, b: number, d: number, f: number): void {
    const address = addressOf(this.#places, a, d);
    const size = [4, 2, 1, 8][b % 4];
    this.#memory.driverPut(address, size, f);
    this.#say?.(`0x${address.toString(16)} becomes ${f} (${size} bytes)`);
  }

  /** Writes `used_event` or flags. */
  event(used: number, a: number, d: number): void {
    const { availableRing, size } = this.#options;
    if (a % 2 === 0) {
      const event = availableRing + 4n + 2n * BigInt(size);
      const index = used + (d % 16) - 8 & 0xffff;
      this.#memory.driverPut(event, 2, index);
      this.#say?.(`used_event becomes ${index}`);
    } else {
      this.#memory.driverPut(availableRing, 2, d);
      this.#say?.(`flags become ${d}`);
    }
  }
}
