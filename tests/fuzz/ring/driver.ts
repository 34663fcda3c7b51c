/**
 * What the driver of a split ring does in an input: keep the rules, or not.
 *
 * @module
 */

import { QueueDriver } from "../queue/driver.ts";
import { TABLE } from "../queue/layout.ts";
import { addressOf, lengthOf, putDescriptor } from "./program.ts";

/** Flags of descriptors. */
const FLAGS = [0, 1, 2, 3, 1, 3, 4, 5, 6, 7, 0xfff9, 0x8000] as const;

/** The driver of a split ring. */
export class SplitDriver extends QueueDriver {
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
      : this.ring.descriptorTable + 16n * BigInt(a % this.ring.size);
    const next = f >>> 8 & 0xff;
    const descriptor = {
      address: addressOf(this.places, b, d),
      length: lengthOf(c, e),
      flags: FLAGS[f % FLAGS.length],
      next: next < 0xf0 ? next % (this.ring.size + 2) : next * 257,
    };
    putDescriptor(this.memory, at, descriptor);
    this.say?.(
      `descriptor 0x${at.toString(16)}: ${descriptor.length} at 0x${
        descriptor.address.toString(16)
      }, flags ${descriptor.flags}, next ${descriptor.next}`,
    );
  }

  /** A chain that keeps the rules, but for where its buffers are. */
  chain(a: number, b: number, c: number, d: number, e: number): void {
    const { size, descriptorTable } = this.ring;
    const count = 1 + a % 6;
    const head = b % size;
    const indirect = (c & 1) !== 0;
    const readable = (c >> 3) % (count + 1);
    const table = this.table(c);
    for (let i = 0; i < count; i++) {
      const last = i === count - 1;
      const place = indirect ? i : (head + i) % size;
      putDescriptor(
        this.memory,
        (indirect ? table : descriptorTable) + 16n * BigInt(place),
        {
          address: addressOf(this.places, d & 15, (d >> 4) + 48 * i),
          length: lengthOf(e & 7, (e >> 3) + i),
          flags: (i >= readable ? 2 : 0) | (last ? 0 : 1),
          next: last ? 0 : indirect ? i + 1 : (head + i + 1) % size,
        },
      );
    }
    if (indirect) {
      const address = table, length = 16 * count;
      putDescriptor(
        this.memory,
        descriptorTable + 16n * BigInt(head),
        { address, length, flags: 4, next: 0 },
      );
    }
    this.say?.(
      `chain of ${count} at ${head}, ${readable} readable` +
        (indirect ? `, table at 0x${table.toString(16)}` : ""),
    );
    if ((c & 0x80) === 0) this.#offer(head);
  }

  /** Makes a head available, whatever it is. */
  offer(a: number): void {
    this.#offer(a < 0xf0 ? a % this.ring.size : a * 257);
  }

  /** Sets the available index, so far ahead of the device. */
  jump(next: number, a: number, _b: number, d: number): void {
    const index = next + (a < 0x80 ? a : d) & 0xffff;
    this.memory.driverPut(this.ring.availableRing + 2n, 2, index);
    this.say?.(`available index becomes ${index}`);
  }

  /** Writes `used_event` or flags. */
  event(used: number, a: number, d: number): void {
    const { availableRing, size } = this.ring;
    if (a % 2 === 0) {
      const event = availableRing + 4n + 2n * BigInt(size);
      const index = used + (d % 16) - 8 & 0xffff;
      this.memory.driverPut(event, 2, index);
      this.say?.(`used_event becomes ${index}`);
    } else {
      this.memory.driverPut(availableRing, 2, d);
      this.say?.(`flags become ${d}`);
    }
  }

  #offer(head: number): void {
    const { availableRing, size } = this.ring;
    const index = this.memory.read(availableRing + 2n, 2);
    const entry = availableRing + 4n + 2n * BigInt(index % size);
    this.memory.driverPut(entry, 2, head);
    this.memory.driverPut(availableRing + 2n, 2, index + 1 & 0xffff);
    this.say?.(`head ${head} becomes available at ${index}`);
  }
}
