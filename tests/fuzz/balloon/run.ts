/**
 * Fuzzes a balloon: lists of pages, statistics and reports on real rings.
 *
 * Theory of operation. Regions of guest memory belong to files of different
 * kinds: with pages of 4 KiB, with huge ones that do not lie at the same places
 * in the file as in the guest, to none, to an object that has no pages. A page
 * that the device gives back becomes zero, in its memory; the model erases what
 * the driver put into the balloon or reported, in its own. Both are equal after
 * each call, so nothing else is ever given back.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { expect, type Observer } from "../engine/target.ts";
import { DeviceDriver, DISTURB_BYTES, type Piece } from "../device/driver.ts";
import type { QueueWatch } from "../device/watched_queue.ts";
import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { watchReads } from "../memory/racing_reads.ts";
import type { ModelChain } from "../ring/model.ts";
import { BalloonDevice } from "../../../backends/balloon/device.ts";
import { resolveBalloonOptions } from "../../../backends/balloon/options.ts";
import { STAT_NAMES } from "../../../backends/balloon/protocol.ts";
import { writeWords } from "../../../virtqueue/config_words.ts";
import { featureMask } from "../../../virtqueue/constants.ts";
import type { GuestMemory } from "../../../virtqueue/memory.ts";
import { BalloonModel } from "./model.ts";
import { HOLE, type PageFiles, PAGES, REGIONS, RINGS } from "./memory.ts";

/** Bytes of a record. */
export const RECORD = 20;
const MOST_READS = 100_000;
const BUDGET = 8;
const QUEUES = 5;
/** Turns after which every chain was answered. */
const MOST_TURNS = 500;

/** STATS_VQ, PAGE_POISON, PAGE_REPORTING. */
const FEATURES = [
  featureMask(1, 4, 5),
  featureMask(1, 5),
  featureMask(5),
  featureMask(1),
  0n,
] as const;

/** A driver and its balloon. */
export class Run implements QueueWatch {
  readonly #memory: FuzzMemory;
  readonly #shared: GuestMemory;
  readonly #files: PageFiles;
  readonly #observer: Observer;
  readonly #device: BalloonDevice;
  readonly #model: BalloonModel;
  readonly #driver: DeviceDriver;
  readonly #features: bigint;
  #ready: (() => void) | null = null;
  /** Statistics that are to be handed back. */
  #older: ModelChain | null = null;
  /** The device moves on by itself. */
  #polling = false;

  constructor(
    memory: FuzzMemory,
    shared: GuestMemory,
    files: PageFiles,
    bytes: Bytes,
    observer: Observer,
  ) {
    this.#memory = memory;
    this.#shared = shared;
    this.#files = files;
    this.#observer = observer;
    files.failing = false;
    this.#device = new BalloonDevice(
      resolveBalloonOptions({ size: 0, statsInterval: 1 }),
      files,
      {
        memory: shared,
        slotsPerQueue: 16,
        worker: 0,
        ring: () => null,
        configChanged() {},
        resume() {},
        watch: (_, ready) => void (this.#ready = ready),
        log() {},
      },
    );
    this.#features = FEATURES[bytes.u8() % FEATURES.length];
    this.#device.negotiate(this.#features);
    this.#device.activate();
    this.#model = new BalloonModel(memory, PAGES, this.#features);
    const base = REGIONS[RINGS][0];
    const places = { regions: REGIONS, hole: HOLE };
    this.#driver = new DeviceDriver(memory, shared, places, base);
    const traits = { ...this.#device, eventIdx: bytes.u8() % 2 === 1 };
    for (let i = 0; i < QUEUES; i++) this.#driver.start(i, traits, this);
  }

  // What the device does.

  taken({ index }: { index: number }, chain: ModelChain): void {
    const model = this.#model;
    if (model.isStatistics(index)) {
      this.#older = model.stats;
      model.stats = chain;
      // The older one is handed back before the new one is read.
      if (this.#older !== null) return;
    }
    model.start(index, chain);
  }

  untaken({ index }: { index: number }): void {
    if (this.#model.isStatistics(index)) this.#model.stats = null;
    else this.#model.drop(index);
  }

  completed(
    { index }: { index: number },
    chain: ModelChain,
    written: number,
  ): number {
    expect(written === 0, () => `${written} bytes are said to be written`);
    this.#model.counters.completed++;
    if (!this.#model.isStatistics(index)) {
      expect(this.#model.owes(index), () => `queue ${index}: too early`);
      return 0;
    }
    expect(chain === this.#older, () => "statistics are answered untimely");
    this.#older = null;
    return 0;
  }

  answered({ index }: { index: number }): void {
    const { refused, failures, inhibited, counters } = this.#model;
    this.#observer.reached(
      index | Math.min(refused.length, 1) << 3 | Math.min(failures, 1) << 4 |
        (inhibited ? 1 : 0) << 5 | Math.min(counters.badPages, 1) << 6 |
        Math.min(counters.discards, 7) << 7,
    );
    const { stats } = this.#model;
    if (this.#model.isStatistics(index) && stats !== null) {
      this.#model.start(index, stats);
    }
    if (this.#polling) this.#model.advance();
  }

  // What the driver does.

  /** One record. */
  step(bytes: Bytes): void {
    const kind = bytes.u8() % 8;
    if (kind < 4) return this.#list(bytes);
    if (kind === 4) return this.#report(bytes);
    if (kind === 5) {
      this.#say(this.#driver.disturb(bytes));
      for (let i = DISTURB_BYTES + 1; i < RECORD; i++) bytes.u8();
      return;
    }
    const what = bytes.u8(), a = bytes.u8(), b = bytes.u16();
    for (let i = 5; i < RECORD; i++) bytes.u8();
    if (kind === 6) this.#configure(what, a, b);
    else if (what % 4 === 3) this.#restart(a, b);
    this.turn();
  }

  /** Serves until nothing is left, and stops. */
  finish(): void {
    for (let i = 0;; i++) {
      this.turn();
      const more = this.#driver.queues.map((queue) => queue.ready);
      if (!more.includes(true) && this.#model.idle) break;
      expect(i < MOST_TURNS, () => `no end after ${i} turns`);
    }
    for (const queue of this.#driver.queues) {
      this.#device.quiesce(queue);
      expect(queue.inFlight === 0, () => `queue ${queue.index} is not drained`);
    }
    this.#driver.settle("the end");
  }

  /** Gives everything back. */
  close(): void {
    this.#device.deactivate();
    this.#device.close();
  }

  /** Every queue is served once, and the device moves on. */
  turn(): void {
    const { queues } = this.#driver;
    for (const queue of queues) {
      if (!queue.ready) continue;
      this.#call(() => this.#device.serve(queue, BUDGET));
    }
    this.#polling = true;
    this.#call(() => {
      this.#model.begin();
      this.#device.poll();
    });
    this.#polling = false;
    expect(!this.#model.advance(), () => "an answer is missing");
    this.#check();
  }

  #call(action: () => void): void {
    watchReads({ limit: MOST_READS }, action);
    expect(this.#older === null, () => "statistics are not handed back");
  }

  #check(): void {
    this.#driver.settle("a turn");
    const { counters, refused, failures, sizes, statistics } = this.#model;
    const right = {
      ...counters,
      refused: Object.fromEntries(
        Object.entries(refused).filter(([, count]) => count > 0),
      ),
      errors: failures > 0 ? { ENOSPC: failures } : {},
    };
    same("counters", this.#device.metrics.toJSON(), right);
    const { reclaimed, partial, actual, stats } = this.#device.status();
    same("sizes", { reclaimed, partial, actual }, {
      ...sizes,
      actual: this.#model.actual * 4096,
    });
    same(
      "statistics",
      stats,
      Object.fromEntries(
        statistics.map(([tag, value]) => [
          STAT_NAMES[tag] ?? `tag${tag}`,
          value,
        ]),
      ),
    );
  }

  #list(bytes: Bytes): void {
    const queue = bytes.u8() % QUEUES, which = bytes.u8(), base = bytes.u16();
    const many = bytes.u8(), stride = bytes.u8() << 24 >> 24;
    const flags = bytes.u8(), odd = bytes.u8();
    const cuts = [4 * bytes.u8() + odd % 3, bytes.u8()];
    const kind = bytes.u8(), at = bytes.u16(), room = bytes.u8();
    const high = bytes.u16();
    for (let i = 17; i < RECORD; i++) bytes.u8();
    const count = many < 0xe0 ? many % 40 : 240 + many % 32 * 12;
    const list = new Uint8Array(4 * count + 12);
    const view = new DataView(list.buffer);
    for (let i = 0; i < count; i++) {
      view.setUint32(4 * i, pageOf(which, base + i * stride, high), true);
    }
    if (queue === 2 && (flags & 8) === 0) {
      for (let i = 0; 10 * i + 10 <= list.length; i++) {
        view.setUint16(10 * i, (base + i) % 20, true);
        view.setUint32(10 * i + 6, many >> 4, true);
      }
    }
    const whole = queue === 2 ? 10 * Math.floor(4 * count / 10) : 4 * count;
    const length = Math.max(0, whole + (odd < 0xc0 ? 0 : odd % 12));
    const pieces = this.#driver.place({
      bytes: list.subarray(0, length),
      length,
      cuts,
      kind,
      at,
    });
    if (room >= 0xc0) {
      pieces.push(...this.#driver.place({
        length: room - 0xbf,
        cuts: [],
        kind: kind >> 4,
        at,
      }));
    }
    if (pieces.length === 0) {
      pieces.push({ address: 0x10_0000n, length: 0, write: false });
    }
    const first = view.getUint32(0, true);
    this.#say(`queue ${queue}: ${length} bytes, from page ${first} on`);
    this.#submit(queue, pieces, flags);
  }

  #report(bytes: Bytes): void {
    const queue = 2 + bytes.u8() % 3, many = bytes.u8(), which = bytes.u8();
    const base = bytes.u16(), pages = bytes.u8(), flags = bytes.u8();
    const offset = bytes.u8(), end = bytes.u8(), stride = bytes.u8();
    for (let i = 11; i < RECORD; i++) bytes.u8();
    const pieces: Piece[] = [];
    for (let i = 0; i <= many % 4; i++) {
      const page = pageOf(which, base + i * stride, 0);
      const shift = offset < 0x80 ? 0 : 32 * (offset - 0x80);
      const cut = end < 0x80 ? 0 : 32 * (end - 0x80);
      pieces.push({
        address: BigInt(page * 4096 + shift),
        length: Math.max(1, (1 + pages % 24) * 4096 - shift - cut),
        write: (flags & 8) === 0,
      });
    }
    this.#say(
      `report to ${queue}: ` +
        pieces.map(({ address, length }) =>
          `${length} at 0x${address.toString(16)}`
        ).join(", "),
    );
    this.#submit(queue, pieces, flags);
  }

  #submit(queue: number, pieces: readonly Piece[], flags: number): void {
    this.#driver.submit(queue, pieces, (flags & 1) !== 0);
    if ((flags & 2) === 0) this.turn();
  }

  #configure(what: number, a: number, b: number): void {
    const model = this.#model;
    const space = new Uint8Array(16);
    const view = new DataView(space.buffer);
    switch (what % 5) {
      case 0:
        model.actual = b;
        model.poison = a % 3 === 0 ? 0 : a;
        view.setUint32(4, model.actual, true);
        view.setUint32(12, model.poison, true);
        this.#write(0, space);
        return this.#say(`actual is ${b}, poison ${model.poison}`);
      case 1:
        model.inhibited = a % 2 === 1;
        this.#device.logWrites(model.inhibited);
        return this.#say(`writes are logged: ${model.inhibited}`);
      case 2:
        model.failing = a % 2 === 1;
        this.#files.failing = model.failing;
        return this.#say(`pages cannot be given back: ${model.failing}`);
      case 3:
        this.#older = model.stats;
        model.stats = null;
        this.#call(() => this.#ready!());
        return this.#say("statistics are asked for");
      default:
        this.#write(b, space.subarray(0, a % 17).fill(0));
        if (b <= 12) this.#overwrite(b, a % 17);
        this.#say(`${a % 17} zeroes are written to ${b}`);
    }
  }

  /** Writes the configuration space, as hosts do. */
  #write(offset: number, data: Uint8Array): void {
    const { config, driverWords } = this.#device;
    writeWords(config, driverWords, offset, data);
  }

  /** Bytes of the configuration space became zero. */
  #overwrite(offset: number, length: number): void {
    const words = Uint32Array.of(this.#model.actual, 0, this.#model.poison);
    const space = new Uint8Array(words.buffer);
    for (let i = offset; i < offset + length; i++) {
      if (i >= 4 && i < 8 || i >= 12 && i < 16) space[i - 4] = 0;
    }
    this.#model.actual = words[0];
    this.#model.poison = words[2];
  }

  /** All rings stop; memory comes or goes, or the driver starts anew. */
  #restart(a: number, b: number): void {
    const { queues } = this.#driver;
    for (const queue of queues) {
      this.#device.quiesce(queue);
      expect(queue.inFlight === 0, () => `queue ${queue.index} is not drained`);
    }
    if (a % 2 === 1) {
      const which = RINGS + 1 + b % 3;
      const there = this.#memory.toggle(which, this.#shared);
      this.#say(`region ${which} is ${there ? "plugged in" : "unplugged"}`);
    }
    if (a % 4 === 2) {
      this.#device.reset();
      this.#device.negotiate(this.#features);
      this.#model.empty();
      this.#model.poison = 0;
      this.#say("the device is reset");
    }
    const moved = a % 8 === 4;
    for (const { index, position } of queues) {
      this.#device.start({ index, position: position + (moved ? 1 : 0) });
    }
    if (!moved) return;
    this.#model.empty();
    this.#say("the rings start elsewhere");
  }

  #say(line: string): void {
    this.#observer.say?.(line);
  }
}

/** A page number, of a region more often than not. */
function pageOf(which: number, at: number, high: number): number {
  const number = (at % 64 + 64) % 64;
  if (which >= 0xf0) return (high << 16 | at & 0xffff) >>> 0;
  const { address, size } = PAGES[which % PAGES.length];
  const pages = size / 4096 + (which >= 0xc0 ? 3 : 0);
  return address / 4096 + number % pages;
}

function same(what: string, found: unknown, right: unknown): void {
  const is = JSON.stringify(found), should = JSON.stringify(right);
  expect(is === should, () => `${what} are ${is}, not ${should}`);
}
