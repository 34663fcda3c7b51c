/**
 * A guest that means harm: a front-end whose memory has borders and holes, and
 * drivers whose every field can be written.
 *
 * Theory of operation. Nothing of the memory but the rings is zero: it holds a
 * pattern, and {@linkcode HostileGuest.strike} notes all of it just before it
 * kicks the device. Whatever differs afterwards was written by the device, so
 * {@linkcode HostileGuest.changes} can tell every byte that the device should
 * have left alone.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../virtqueue/constants.ts";
import {
  FakeDriver,
  FakeMemory,
  type RawDescriptor,
} from "../../virtqueue/testing/driver.ts";
import { header, SECTOR, T_IN } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";

/** Descriptor flags, by short names. */
export const NEXT = VIRTQ_DESC_F_NEXT;
export const WRITE = VIRTQ_DESC_F_WRITE;
export const INDIRECT = VIRTQ_DESC_F_INDIRECT;

/** Memory at address 0: where an address that wraps around would end. */
export const LOW = 0, LOW_SIZE = 0x1_0000;
/** The memory with the rings. */
export const MAIN = 0x10_0000, MAIN_SIZE = 0x10_0000;
/** Memory of its own that begins where {@linkcode MAIN} ends. */
export const BORDER: number = MAIN + MAIN_SIZE;
export const BESIDE_SIZE = 0x1_0000;
/** Memory far away from all other. */
export const FAR = 0x4000_0000, FAR_SIZE = 0x1_0000;
/** Where there is no memory. */
export const HOLE = 0x2000_0000;

/** Places in {@linkcode MAIN} for the parts of a request. */
export const HEADER: number = MAIN + 0x8000;
export const STATUS: number = MAIN + 0x8100;
export const DATA: number = MAIN + 0x9000;
/** Room for an indirect table of 32768 descriptors. */
export const TABLE: number = MAIN + 0x1_0000;
/** Where a well-behaved request lies. */
const GOOD: number = MAIN + 0xf_0000;

/** Entries of each ring. */
export const RING_SIZE = 64;

const PATTERN = 0xa5;

/** A range of guest memory. */
export interface Range {
  readonly address: number;
  readonly length: number;
}

/** How a {@linkcode HostileGuest} is made. */
export interface HostileGuestOptions {
  /** Virtio features to do without, as a mask. */
  readonly without?: bigint;
}

/** A front-end with two rings on a disk with two queues. */
export class HostileGuest implements Disposable {
  readonly frontEnd: FrontEnd;
  readonly regions: readonly SharedRegion[];
  readonly memory: FakeMemory;
  readonly rings: readonly FakeDriver[];
  #before: Uint8Array[] = [];

  private constructor(frontEnd: FrontEnd) {
    this.frontEnd = frontEnd;
    const main = SharedRegion.create(MAIN, MAIN_SIZE);
    const others = [
      SharedRegion.create(LOW, LOW_SIZE),
      SharedRegion.create(BORDER, BESIDE_SIZE),
      SharedRegion.create(FAR, FAR_SIZE),
    ];
    this.regions = [main, ...others];
    for (const { bytes } of this.regions) bytes.fill(PATTERN);
    this.memory = new FakeMemory([main]);
    const eventIdx = (frontEnd.features >> 29n & 1n) === 1n;
    this.rings = [0, 1].map(() =>
      new FakeDriver(this.memory, { size: RING_SIZE, eventIdx })
    );
    for (const region of others) this.memory.add(region);
  }

  /** Connects and negotiates; the rings are not started. */
  static async connect(
    socket: string,
    options: HostileGuestOptions = {},
  ): Promise<HostileGuest> {
    const frontEnd = FrontEnd.connect(socket);
    try {
      await frontEnd.handshake({ features: ~(options.without ?? 0n) });
      return new HostileGuest(frontEnd);
    } catch (error) {
      frontEnd.close();
      throw error;
    }
  }

  /** Connects, and starts both rings. */
  static async run(
    socket: string,
    options: HostileGuestOptions = {},
  ): Promise<HostileGuest> {
    const guest = await HostileGuest.connect(socket, options);
    try {
      await guest.frontEnd.start(
        guest.regions,
        new Map(guest.rings.entries()),
      );
      return guest;
    } catch (error) {
      guest[Symbol.dispose]();
      throw error;
    }
  }

  /** Writes a chain of descriptors into the table of a ring. */
  chain(
    head: number,
    descriptors: readonly RawDescriptor[],
    ring = 0,
  ): void {
    this.#link(descriptors, head).forEach((descriptor, i) =>
      this.rings[ring].setDescriptor(head + i, descriptor)
    );
  }

  /** Writes an indirect table, and a descriptor of it at `head`. */
  indirect(
    head: number,
    descriptors: readonly RawDescriptor[],
    at = TABLE,
  ): void {
    this.#link(descriptors, 0).forEach((descriptor, i) =>
      this.rings[0].setDescriptorAt(at + 16 * i, descriptor)
    );
    this.rings[0].setDescriptor(head, {
      address: at,
      length: 16 * descriptors.length,
      flags: INDIRECT,
    });
  }

  /** Links descriptors that lie one after the other, unless they say how. */
  #link(
    descriptors: readonly RawDescriptor[],
    first: number,
  ): RawDescriptor[] {
    return descriptors.map((descriptor, i) => {
      if (descriptor.next !== undefined) return descriptor;
      const last = i === descriptors.length - 1;
      const flags = (descriptor.flags ?? 0) | (last ? 0 : NEXT);
      return { ...descriptor, flags, next: last ? 0 : first + i + 1 };
    });
  }

  /** Writes the header of a request at {@linkcode HEADER}, or elsewhere. */
  header(type: number, sector: number | bigint, at = HEADER): RawDescriptor {
    const bytes = header(type >>> 0, 0);
    new DataView(bytes.buffer).setBigUint64(8, BigInt(sector), true);
    this.memory.write(at, bytes);
    return { address: at, length: 16 };
  }

  /** The descriptor of a status byte, which is 0xff before. */
  status(at = STATUS): RawDescriptor {
    this.memory.write(at, new Uint8Array([0xff]));
    return { address: at, length: 1, flags: WRITE };
  }

  /** Makes heads available, notes all memory, then kicks. */
  strike(heads: readonly number[], ring = 0): void {
    const driver = this.rings[ring];
    heads.forEach((head, i) =>
      driver.setAvailable(driver.availableIndex + i, head)
    );
    this.jump(driver.availableIndex + heads.length, ring);
  }

  /** Writes the available index, notes all memory, then kicks. */
  jump(availableIndex: number, ring = 0): void {
    const driver = this.rings[ring];
    // Ask for a notification of whatever comes next.
    if (driver.eventIdx) driver.usedEvent = driver.usedIndex;
    driver.setAvailableIndex(availableIndex);
    this.note();
    this.frontEnd.kick(ring);
  }

  /** Notes all memory: {@linkcode changes} are those since then. */
  note(): void {
    this.#before = this.regions.map(({ bytes }) => bytes.slice());
  }

  /** Waits until the device has used `count` chains of a ring in all. */
  async used(count: number, ring = 0): Promise<void> {
    const driver = this.rings[ring];
    await waitUntil(() => driver.usedIndex === (count & 0xffff), {
      what: `${count} used buffers of ring ${ring}, not ${driver.usedIndex}`,
      timeout: 5_000,
      interval: 1,
    });
  }

  /** Waits until the device has signalled an error of a ring. */
  async errorSignalled(ring = 0): Promise<void> {
    const { error } = this.frontEnd.events(ring);
    await waitUntil(() => error.drain() > 0, {
      what: `an error signal of ring ${ring}`,
      timeout: 5_000,
      interval: 1,
    });
  }

  /**
   * Bytes that changed since the last kick, outside of the used ring of that
   * kick and of what is permitted, by address (the first few).
   */
  changes(permitted: readonly Range[], ring = 0): string[] {
    const { usedRing, size } = this.rings[ring];
    const allowed = [...permitted, { address: usedRing, length: 6 + 8 * size }];
    // The device asks for kicks some time after it has answered.
    for (const { usedRing, size } of this.rings) {
      allowed.push({ address: usedRing, length: 2 });
      allowed.push({ address: usedRing + 4 + 8 * size, length: 2 });
    }
    const found: string[] = [];
    this.regions.forEach(({ guestAddress, bytes }, region) => {
      const before = this.#before[region];
      let i = firstDifference(before, bytes, 0);
      for (; i >= 0; i = firstDifference(before, bytes, i + 1)) {
        const at = guestAddress + i;
        const range = allowed.find(({ address, length }) =>
          at >= address && at < address + length
        );
        if (range !== undefined) {
          i = range.address + range.length - guestAddress - 1;
        } else if (found.length < 8) {
          found.push(`0x${at.toString(16)}: ${before[i]} → ${bytes[i]}`);
        } else break;
      }
    });
    return found;
  }

  /**
   * Reads a sector with a well-behaved request and verifies its stamp.
   *
   * @param permitted what else may change meanwhile
   */
  async verify(ring = 0, permitted: readonly Range[] = []): Promise<void> {
    const driver = this.rings[ring];
    const sector = 7;
    const head = RING_SIZE - 3;
    this.chain(head, [
      this.header(T_IN, sector, GOOD),
      { address: GOOD + 0x1000, length: SECTOR, flags: WRITE },
      this.status(GOOD + 0x100),
    ], ring);
    const before = driver.usedIndex;
    this.strike([head], ring);
    await this.used(before + 1, ring);
    assertEquals(driver.usedElement(before), { id: head, length: SECTOR + 1 });
    assertEquals(this.memory.read(GOOD + 0x100, 1)[0], 0);
    assertEquals(this.memory.getUint32(GOOD + 0x1000), sector);
    assertEquals(
      this.changes([
        { address: GOOD + 0x100, length: 1 },
        { address: GOOD + 0x1000, length: SECTOR },
        ...permitted,
      ], ring),
      [],
    );
  }

  /** Stops a ring and starts it anew, all zeroes, as a driver's reset does. */
  async restart(ring = 0): Promise<void> {
    const driver = this.rings[ring];
    await this.frontEnd.getVringBase(ring);
    driver.reset();
    await this.frontEnd.setupRing(ring, driver);
  }

  [Symbol.dispose](): void {
    this.frontEnd.close();
    for (const region of this.regions) region[Symbol.dispose]();
  }
}

/** Index of the first byte from `start` on in which two arrays differ, or -1. */
function firstDifference(
  a: Uint8Array,
  b: Uint8Array,
  start: number,
): number {
  let i = start;
  for (; i < a.length && i % 4 !== 0; i++) if (a[i] !== b[i]) return i;
  const words = a.length >> 2;
  const left = new Int32Array(a.buffer, a.byteOffset, words);
  const right = new Int32Array(b.buffer, b.byteOffset, words);
  for (let word = i >> 2; word < words; word++) {
    if (left[word] === right[word]) continue;
    for (i = word * 4; a[i] === b[i];) i++;
    return i;
  }
  return -1;
}
