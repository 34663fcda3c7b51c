/**
 * Where packed rings have come, for front-ends that do not track it themselves:
 * memory that outlives the process of the device, and that its owner hands to the
 * next one.
 *
 * Theory of operation
 * -------------------
 * A packed ring has no index in guest memory. After the death of a back-end its
 * front-end names the position at which the ring started, or at which it stopped
 * in order before; QEMU tracks requests of disks, by an area of its own, and of no
 * network device. So each packed ring that no front-end tracks is tracked here, in
 * an area of the same layout (`virtqueue/packed_inflight.ts`), beside a record of
 * the ring that it belongs to. A ring that starts goes on where the area says if it
 * is the same one; else the area begins anew, at the position of the front-end.
 *
 * It is the same ring when all of this holds:
 *
 * - it did not stop in order, nor was the device reset: then the front-end knows
 *   better, and the record was crossed out;
 * - its size and the guest addresses of its three parts are the same;
 * - the front-end names the same position as before: all that it can know;
 * - the device event structure is not zero. A device writes it before it takes the
 *   first chain, and never writes 0; a driver that sets a ring up clears it. So a
 *   guest that was reset while nobody served it is told from one that was not,
 *   also where it sets up the same ring at the same place.
 *
 * A record is crossed out before the area is cleared, and written last: a process
 * may die between any two stores.
 *
 * The memory is sparse, and grows: what no ring uses is not there.
 *
 * @module
 */

import type { OwnedFd } from "../sys/fd.ts";
import { mapFile, type Mapping } from "../sys/mapping.ts";
import { statFd } from "../sys/statx.ts";
import { allocateRange } from "../sys/memfd.ts";
import { packedInflightSize } from "../virtqueue/packed_inflight.ts";
import { MAX_QUEUES, MAX_RING_SIZE } from "./constants.ts";
import type { RingInflight, RingSetup } from "./data_plane.ts";

const PAGE = 4096;
/** Bytes of a record. */
const RECORD = 64;
/** Bytes of all records, before the first area. */
const RECORDS = MAX_QUEUES * RECORD;
/** Bytes from one area to the next. */
const STRIDE = Math.ceil(packedInflightSize(MAX_RING_SIZE) / PAGE) * PAGE;

// Fields of a record, in units of 64 bits: size (0: crossed out), what the
// front-end knows of the position, guest addresses, file of the guest's memory.
const SIZE = 0, KNOWN = 1, PARTS = 2;

/** Bytes of the memory of the rings of a device, at first. */
export const KEPT_RINGS_SIZE: number = RECORDS;

/** The memory of the rings of one device. */
export class KeptRings implements Disposable {
  readonly #file: OwnedFd;
  readonly #records: Mapping;
  readonly #fields: Float64Array<ArrayBuffer>;
  readonly #areas = new Map<number, Mapping>();

  /**
   * Maps the records.
   *
   * @param file of {@linkcode KEPT_RINGS_SIZE} bytes, at first zeroes; taken over
   * @throws {SystemError} when it cannot be mapped
   */
  constructor(file: OwnedFd) {
    this.#file = file;
    this.#records = mapFile(file.fd, { offset: 0, size: RECORDS });
    this.#fields = new Float64Array(this.#records.buffer);
  }

  /**
   * The area of a ring that is to start: as a predecessor left it, or cleared.
   *
   * @param setup the ring, which is a packed one and does not run
   * @param known the position as the front-end said it last
   * @param event the device event structure, as one number
   * @param memory descriptor of the memory that the ring lies in: another guest's,
   * or another life's of this one, is another file
   * @throws {SystemError} when it cannot be mapped
   */
  ring(
    setup: RingSetup,
    known: number,
    event: number,
    memory: number,
  ): RingInflight {
    const { index, size } = setup, parts = partsOf(setup, memory);
    const length = packedInflightSize(size);
    const area = this.#map(index, length);
    if (event === 0 || !this.#remembers(setup, known, parts)) {
      this.forget(index);
      new Uint8Array(area.buffer, 0, length).fill(0);
      this.#remember(setup, known, parts);
    }
    return { address: area.address, size: length, heads: size };
  }

  /** A ring stopped in order: the front-end knows where it is. */
  forget(index: number): void {
    this.#fields[index * RECORD / 8 + SIZE] = 0;
  }

  /** The device was reset. */
  forgetAll(): void {
    for (let index = 0; index < MAX_QUEUES; index++) this.forget(index);
  }

  /** Unmaps the areas. No ring runs. */
  release(): void {
    for (const area of this.#areas.values()) area.unmap();
    this.#areas.clear();
  }

  [Symbol.dispose](): void {
    this.release();
    this.#records.unmap();
    this.#file.close();
  }

  #remembers(
    setup: RingSetup,
    known: number,
    parts: readonly number[],
  ): boolean {
    const at = setup.index * RECORD / 8, fields = this.#fields;
    return fields[at + SIZE] === setup.size && fields[at + KNOWN] === known &&
      parts.every((part, i) => fields[at + PARTS + i] === part);
  }

  #remember(setup: RingSetup, known: number, parts: readonly number[]): void {
    const at = setup.index * RECORD / 8, fields = this.#fields;
    fields[at + KNOWN] = known;
    parts.forEach((part, i) => fields[at + PARTS + i] = part);
    fields[at + SIZE] = setup.size;
  }

  /** Maps the area of a ring, of at least `length` bytes. */
  #map(index: number, length: number): Mapping {
    const old = this.#areas.get(index);
    if (old !== undefined) {
      if (old.size >= length) return old;
      old.unmap();
      this.#areas.delete(index);
    }
    const offset = RECORDS + index * STRIDE;
    allocateRange(this.#file.fd, offset, length);
    const area = mapFile(this.#file.fd, { offset, size: length });
    this.#areas.set(index, area);
    return area;
  }
}

/** What a ring is known by: where it lies, and in which file. */
function partsOf(setup: RingSetup, memory: number): readonly number[] {
  const { dev, ino } = statFd(memory);
  return [
    ...[setup.descriptorTable, setup.availableRing, setup.usedRing],
    ...[Number(dev), Number(ino)],
  ];
}
