/**
 * Fuzzes a block device: requests on a real ring, in real memory, to real
 * storage.
 *
 * Theory of operation. An input chooses a disk, what the driver negotiated, and
 * then requests: type, place, ranges, how they are cut into descriptors and
 * where these point to, what a second processor changes meanwhile. The models
 * of the ring and of the device do the same on a shadow of memory and on an
 * array; after each turn of the device memory, counters and disk are equal, so
 * each request was answered once, with the right status and length.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { comparable, equalBytes } from "../engine/equal.ts";
import { expect, type Observer } from "../engine/target.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { explainRace, type RacePlan, runRace } from "../memory/race.ts";
import { watchReads } from "../memory/racing_reads.ts";
import { copyState, type ModelChain, RingModel } from "../ring/model.ts";
import { addressOf, lengthOf, putDescriptor } from "../ring/program.ts";
import {
  featureMask,
  VIRTIO_F_VERSION_1,
} from "../../../virtqueue/constants.ts";
import { SplitQueue } from "../../../virtqueue/split_queue.ts";
import { type Disk, RING_SIZE } from "./disks.ts";
import type { BlkModel, Ending } from "./model.ts";

/** Regions of memory: address and length. */
export const REGIONS = [
  [0x10_0000, 0x4000],
  [0x10_4000, 0x1000],
  [0x20_0000, 0x2000],
  [2 ** 52, 0x1000],
] as const;
const HOLE = 0x18_0000;
const DESCRIPTORS = 0x20_0000n, AVAILABLE = 0x20_0400n, USED = 0x20_0800n;
const PARTS = { regions: REGIONS, hole: HOLE };
/** Indirect tables: one for each head. */
const TABLES = 0x20_1000n;

const TYPES = [
  0,
  1,
  11,
  13,
  8,
  4,
  5,
  0,
  1,
  11,
  13,
  2,
  25,
  0x8000_0001,
] as const;
const SECTORS = [
  0n,
  1n << 32n,
  1n << 53n,
  1n << 55n,
  (1n << 64n) - 1n,
  127n,
  128n,
  129n,
] as const;
const COUNTS = [
  0,
  1,
  8,
  0x7f,
  0x80,
  0x81,
  0x1_0000,
  0x1_0001,
  0x40_0000,
  0x40_0001,
  0xffff_ffff,
] as const;
/** FLUSH and CONFIG_WCE, modern or not. */
const FEATURES = [
  featureMask(VIRTIO_F_VERSION_1, 9),
  featureMask(9),
  featureMask(VIRTIO_F_VERSION_1, 9, 11),
  featureMask(VIRTIO_F_VERSION_1),
] as const;
/** Bytes of a record. */
export const RECORD = 24;
const MOST_READS = 100_000;

/** A part of a request, from start to end. */
interface Part {
  readonly bytes: Uint8Array;
  /** How long it is, where the device fills it. */
  readonly length: number;
  /** Where it is cut. */
  readonly cuts: readonly number[];
  /** Where its pieces are, see `addressOf`. */
  readonly kind: number;
  readonly at: number;
}

interface Piece {
  readonly address: bigint;
  readonly length: number;
  readonly write: boolean;
}

/** A driver and its disk. */
export class Run {
  readonly #memory: FuzzMemory;
  readonly #disk: Disk;
  readonly #model: BlkModel;
  readonly #observer: Observer;
  readonly #queue: SplitQueue;
  readonly #ring: RingModel;
  readonly #legacy: boolean;
  #head = 0;
  /** Nobody can know how it goes on. */
  over = false;

  constructor(
    memory: FuzzMemory,
    disk: Disk,
    model: BlkModel,
    bytes: Bytes,
    observer: Observer,
    shared: ReturnType<FuzzMemory["share"]>,
  ) {
    this.#memory = memory;
    this.#disk = disk;
    this.#model = model;
    this.#observer = observer;
    const choice = bytes.u8() % FEATURES.length;
    this.#legacy = choice === 1;
    disk.device.negotiate(FEATURES[choice]);
    const eventIdx = bytes.u8() % 2 === 1;
    const options = {
      size: RING_SIZE,
      position: 0,
      eventIdx,
      indirect: true,
      slots: RING_SIZE,
    };
    this.#queue = new SplitQueue({
      ...options,
      index: 0,
      memory: shared,
      maxSegments: disk.device.maxSegments,
      descriptorTable: Number(DESCRIPTORS),
      availableRing: Number(AVAILABLE),
      usedRing: Number(USED),
    });
    this.#ring = new RingModel(memory, {
      ...options,
      descriptorTable: DESCRIPTORS,
      availableRing: AVAILABLE,
      usedRing: USED,
    });
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }

  /** One record. */
  step(bytes: Bytes): void {
    const kind = bytes.u8() % 8;
    if (kind < 5) return this.#request(kind, bytes);
    const a = bytes.u8(), b = bytes.u8(), c = bytes.u8();
    const d = bytes.u16(), e = bytes.u16(), f = bytes.u32();
    for (let i = 12; i < RECORD; i++) bytes.u8();
    const address = this.#address(b, d);
    if (kind === 5) {
      this.#memory.driverPut(address, [4, 2, 1, 8][a % 4], f);
      return this.#say(`0x${address.toString(16)} becomes ${f}`);
    }
    if (kind === 6) {
      const at = (a & 0x80) === 0
        ? DESCRIPTORS + 16n * BigInt(a % RING_SIZE)
        : TABLES + 16n * BigInt(a % 128);
      const length = lengthOf(c, e);
      const flags = f & 7, next = (f >>> 8) % (RING_SIZE + 1);
      putDescriptor(this.#memory, at, { address, length, flags, next });
      return this.#say(`descriptor 0x${at.toString(16)} becomes another`);
    }
    if (a % 4 === 3) this.#configure(b, d);
    if (a % 2 === 0) this.#offer(b % (RING_SIZE + 1));
    for (let i = 0; i <= RING_SIZE && !this.over; i++) {
      if (!this.#serve(null)) break;
    }
    this.#publish();
  }

  #address(kind: number, at: number): bigint {
    const parts = [DESCRIPTORS, AVAILABLE, USED];
    return addressOf({ ...PARTS, parts }, kind, at);
  }

  #request(kind: number, bytes: Bytes): void {
    const typeByte = bytes.u8(), sectorKind = bytes.u8();
    const sectorLow = bytes.u16(), count = bytes.u8(), odd = bytes.u8();
    const cuts = [bytes.u8(), bytes.u8()], writeCut = bytes.u8();
    const kindOf = bytes.u8(), readAt = bytes.u16(), writeAt = bytes.u16();
    const flags = bytes.u8(), rangeCount = bytes.u8();
    const rangeLow = bytes.u8(), rangeFlags = bytes.u8();
    const moment = bytes.u8(), raceAt = bytes.u8(), raceValue = bytes.u16();
    const raceKind = bytes.u8();
    const type = typeByte < 0xf0
      ? TYPES[typeByte % TYPES.length]
      : typeByte * 0x101_0101;
    const sector = sectorKind < 0xc0
      ? BigInt(sectorLow % 130)
      : SECTORS[sectorKind % SECTORS.length] + BigInt(sectorLow % 4);
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, type, true);
    view.setBigUint64(8, BigInt.asUintN(64, sector), true);
    const extra = odd < 0xe0 ? 0 : odd - 0xe0;
    const unit = this.#disk.facts.blockSize;
    const length = (count < 0x80 ? count % 6 : count % 18) * unit % 0x3001 +
      extra;
    let body = new Uint8Array(0);
    let room = 1;
    if (type % 2 ** 31 === 1) {
      body = new Uint8Array(length).map((_, i) => i * 7 + count);
    } else if (type === 11 || type === 13) {
      body = this.#ranges(rangeCount, rangeLow, rangeFlags, sector, extra);
    } else if (type === 8) room = 1 + count % 32;
    else if (type === 0) room = 1 + length;
    if ((flags & 0x40) !== 0) room += count % 4 - 1;
    const readable = new Uint8Array(header.length + body.length);
    readable.set(header);
    readable.set(body, header.length);
    const cutOff = (flags & 0x20) !== 0 ? count % 18 : 0;
    const sent = readable.subarray(0, Math.max(0, readable.length - cutOff));
    const pieces = [
      ...this.#place({
        bytes: sent,
        length: sent.length,
        cuts: [16, 2 * cuts[0], 16 + 32 * cuts[1]],
        kind: kindOf,
        at: readAt,
      }, false),
      ...this.#place({
        bytes: new Uint8Array(0),
        length: room,
        cuts: [room - 1, 32 * writeCut],
        kind: kindOf >> 4,
        at: writeAt,
      }, true),
    ];
    this.#say(
      `request ${type} at sector ${sector}: ${sent.length} to read ` +
        `[${sent.subarray(0, 32)}], ${room} to write, ` +
        pieces.map(({ address, length }) =>
          `${length} at 0x${address.toString(16)}`
        ).join(", "),
    );
    this.#write(pieces, (flags & 1) !== 0);
    if ((flags & 2) !== 0) return;
    const racing = kind < 3 ? null : {
      moment: moment % 48,
      back: raceAt % 16,
      kind: raceAt >> 4,
      value: raceKind << 16 | raceValue,
    };
    this.#serve(racing);
    if (!this.over && (flags & 4) === 0) this.#publish();
  }

  #ranges(
    count: number,
    low: number,
    flags: number,
    sector: bigint,
    extra: number,
  ): Uint8Array<ArrayBuffer> {
    const many = count < 0xf0 ? count % 5 : 30 + count % 4;
    const bytes = new Uint8Array(16 * many + extra);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < many; i++) {
      const sectors = low < 0xc0
        ? (low >> (2 * i % 8)) * (this.#disk.facts.blockSize / 512)
        : COUNTS[(low + i) % COUNTS.length];
      const step = BigInt(8 * i);
      view.setBigUint64(16 * i, BigInt.asUintN(64, sector + step), true);
      view.setUint32(16 * i + 8, sectors, true);
      view.setUint32(16 * i + 12, flags < 0xf0 ? flags >> i & 1 : flags, true);
    }
    return bytes;
  }

  /** Cuts a part, gives each piece a place, and writes what it contains. */
  #place(part: Part, write: boolean): Piece[] {
    const cuts = [...new Set(part.cuts)]
      .filter((cut) => cut > 0 && cut < part.length)
      .sort((a, b) => a - b);
    const pieces: Piece[] = [];
    let from = 0;
    for (const to of [...cuts, part.length]) {
      if (to === from) continue;
      const at = part.at + 0x240 * pieces.length + (write ? 0x1800 : 0);
      const address = this.#address(part.kind & 15, at);
      const length = to - from;
      if (!write) {
        this.#memory.driverWrite(address, part.bytes.subarray(from, to));
      }
      pieces.push({ address, length, write });
      from = to;
    }
    return pieces;
  }

  #write(pieces: readonly Piece[], indirect: boolean): void {
    const memory = this.#memory;
    const head = this.#head % RING_SIZE;
    const table = indirect ? TABLES + BigInt(head % 8 * 0x100) : DESCRIPTORS;
    const first = indirect ? 0 : head;
    const size = indirect ? 16 : RING_SIZE;
    pieces.forEach(({ address, length, write }, i) => {
      const last = i === pieces.length - 1;
      putDescriptor(memory, table + 16n * BigInt((first + i) % size), {
        address,
        length,
        flags: (write ? 2 : 0) | (last ? 0 : 1),
        next: (first + i + 1) % size,
      });
    });
    if (indirect) {
      putDescriptor(memory, DESCRIPTORS + 16n * BigInt(head), {
        address: table,
        length: 16 * pieces.length,
        flags: 4,
        next: 0,
      });
    }
    this.#head += indirect ? 1 : pieces.length;
    this.#offer(head);
  }

  #offer(head: number): void {
    const index = this.#memory.read(AVAILABLE + 2n, 2);
    const entry = AVAILABLE + 4n + 2n * BigInt(index % RING_SIZE);
    this.#memory.driverPut(entry, 2, head);
    this.#memory.driverPut(AVAILABLE + 2n, 2, index + 1 & 0xffff);
  }

  /** What the front-end and people may ask at any time. */
  #configure(value: number, offset: number): void {
    const { device } = this.#disk;
    device.writeConfig(offset % 64, Uint8Array.of(value, value >> 1, 0));
    const { length } = JSON.stringify(device.status());
    this.#say(`configuration written at ${offset % 64}, status of ${length}`);
  }

  // The device.

  /** Has a request served; false when there was none. */
  #serve(racing: RacePlan | null): boolean {
    const { device } = this.#disk;
    const memory = this.#memory;
    const before = this.#ring.state.answered;
    const serve = (): boolean => device.serve(this.#queue, 1);
    if (racing === null) {
      watchReads({ limit: MOST_READS }, serve);
      this.#expected();
      this.#check();
      return this.#ring.state.answered > before;
    }
    const state = this.#ring.save(), image = this.#model.image.slice();
    const { word, seen } = runRace(memory, racing, MOST_READS, serve);
    const attempt = (): string | null => {
      this.#expected();
      return this.#difference();
    };
    if (word === null) {
      const difference = attempt();
      expect(difference === null, () => `After a request ${difference}`);
      return true;
    }
    this.#say(
      `0x${word.address.toString(16)} becomes ${word.value} before read ` +
        `${racing.moment}`,
    );
    const difference = explainRace(memory, word, seen, {
      attempt,
      restore: () => {
        this.#ring.restore(copyState(state));
        this.#model.image.set(image);
      },
    });
    if (difference === "unknown") this.over = true;
    else {
      expect(difference === null, () => `After a racing request ${difference}`);
    }
    return true;
  }

  /** The models do what the device did. */
  #expected(): void {
    const chain = this.#ring.take();
    if (chain === null) return;
    const ending = this.#model.serve(chain, this.#legacy);
    this.#ring.complete(chain, ending.written);
    this.#note(ending, chain);
  }

  #check(): void {
    const difference = this.#difference();
    expect(difference === null, () => `After a request ${difference}`);
  }

  #difference(): string | null {
    const { counters, inFlight, broken } = this.#queue;
    const { state } = this.#ring;
    const found = [
      counters.completed,
      counters.badChains,
      inFlight,
      broken !== null,
    ];
    const right = [state.answered, state.bad, 0, state.broken];
    if (found.some((value, i) => value !== right[i])) {
      return `completed, bad, in flight, broken are ${found}, not ${right}`;
    }
    const difference = this.#memory.difference();
    if (difference !== null) return difference;
    const disk = this.#disk.read(), { image } = this.#model;
    if (equalBytes(comparable(disk), comparable(image))) return null;
    for (let i = 0; i < image.length; i++) {
      if (disk[i] !== image[i]) {
        return `byte ${i} of the disk is ${disk[i]}, not ${image[i]}`;
      }
    }
    return null;
  }

  #publish(): void {
    const wanted = this.#queue.publish();
    const right = this.#ring.publish();
    expect(wanted === right, () => `publish is ${wanted}, not ${right}`);
    this.#memory.compare("publish");
  }

  #note({ written, status }: Ending, chain: ModelChain): void {
    this.#say(`answer: status ${status}, ${written} bytes`);
    const size = written > 1 ? 2 : written;
    this.#observer.reached(
      (status + 1) | size << 2 | (this.#legacy ? 1 : 0) << 4 |
        this.#disk.facts.segMax << 5 |
        Math.min(chain.readable.length, 7) << 10 |
        Math.min(chain.writable.length, 7) << 13,
    );
  }
}
