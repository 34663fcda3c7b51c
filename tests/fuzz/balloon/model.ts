/**
 * What a balloon has to do with requests: a model, from virtio 1.4, section 5.5,
 * and what `backends/balloon` says of its choices: requests are worked on in
 * steps, pages that lie side by side go as one, huge pages go whole.
 *
 * @module
 */

import type { FuzzMemory } from "../memory/fuzz_memory.ts";
import { readPart } from "../device/watched_queue.ts";
import { piecesOf } from "../ring/chain_check.ts";
import { type ModelChain, totalOf } from "../ring/model.ts";

const PAGE = 4096;
/** Page numbers of a step. */
const STEP = 256;
const MOST_STATS = 64;
const STATS_VQ = 1n << 1n, PAGE_POISON = 1n << 4n, REPORTING = 1n << 5n;

/** A region that may belong to a file. */
export interface PageRegion {
  readonly address: number;
  readonly size: number;
  /** Page size of the file; 0: its pages stay. */
  readonly unit: number;
  /** Where it begins in the file. */
  readonly offset: number;
}

interface Work {
  readonly chain: ModelChain;
  position: number;
}

/** A balloon that is a set of pages. */
export class BalloonModel {
  /** Nothing is given back: writes are logged. */
  inhibited = false;
  /** The system refuses to give pages back. */
  failing = false;
  /** What the driver fills free pages with. */
  poison = 0;
  /** Pages that the driver says are in the balloon. */
  actual = 0;
  /** The chain that waits to be asked with. */
  stats: ModelChain | null = null;
  /** What the last buffer of statistics said: tags and values. */
  statistics: [tag: number, value: number][] = [];
  /** What is to be counted. */
  readonly counters = {
    completed: 0,
    inflatedPages: 0,
    deflatedPages: 0,
    reportedBytes: 0,
    discardedBytes: 0,
    discards: 0,
    badPages: 0,
    keptBytes: 0,
    statistics: 0,
  };
  readonly refused = { queue: 0, segments: 0, length: 0 };
  /** Calls that the system refused. */
  failures = 0;
  readonly #memory: FuzzMemory;
  readonly #regions: readonly PageRegion[];
  readonly #features: bigint;
  readonly #pages = new Set<number>();
  /** Huge pages that were given back, by region and number in the file. */
  readonly #gone = new Set<string>();
  readonly #work: (Work | null)[] = [null, null, null, null, null];
  #turn = 5;

  constructor(
    memory: FuzzMemory,
    regions: readonly PageRegion[],
    features: bigint,
  ) {
    this.#memory = memory;
    this.#regions = regions;
    this.#features = features;
  }

  /** Whether a queue is that of statistics. */
  isStatistics(queue: number): boolean {
    return queue === 2 && (this.#features & STATS_VQ) !== 0n;
  }

  /** Whether nothing is left to do. */
  get idle(): boolean {
    return this.#work.every((work) => work === null);
  }

  /** Whether the chain of a queue is to be answered. */
  owes(queue: number): boolean {
    return this.#work[queue] === null;
  }

  /** Bytes that the host has back, and those that wait for huge pages. */
  get sizes(): { reclaimed: number; partial: number } {
    let reclaimed = 0, partial = 0;
    for (const page of this.#pages) {
      const region = this.#regionOf(page, true);
      if (region!.unit === PAGE) reclaimed += PAGE;
      else if (this.#gone.has(this.#hugeOf(region!, page))) reclaimed += PAGE;
      else partial += PAGE;
    }
    return { reclaimed, partial };
  }

  /** The driver starts anew. */
  empty(): void {
    this.#pages.clear();
    this.#gone.clear();
    this.actual = 0;
    this.statistics = [];
  }

  /** A chain was taken; its first step. */
  start(queue: number, chain: ModelChain): void {
    if (this.isStatistics(queue)) return this.#statistics(chain);
    const pieces = piecesOf(this.#memory, [
      ...chain.readable,
      ...chain.writable,
    ]);
    const buffers = chain.readable.length + chain.writable.length;
    if (queue > 1 && (this.#features & REPORTING) === 0n) {
      this.refused.queue++;
    } else if (buffers > 128 || pieces.length > 132) this.refused.segments++;
    else {
      const listed = totalOf(chain.readable);
      if (queue < 2 && (listed === 0 || listed % 4 !== 0)) {
        this.refused.length++;
      }
      this.#work[queue] = { chain, position: 0 };
      this.#step(queue);
    }
  }

  /** A chain was given back. */
  drop(queue: number): void {
    this.#work[queue] = null;
  }

  /** The device moves on: a step for each queue, one after the other. */
  begin(): void {
    this.#turn = 0;
    this.advance();
  }

  /** Goes on up to the next answer; false: nothing is left. */
  advance(): boolean {
    while (this.#turn < 5) {
      const queue = this.#turn++;
      if (this.#work[queue] === null) continue;
      this.#step(queue);
      if (this.#work[queue] === null) return true;
    }
    return false;
  }

  #step(queue: number): void {
    const work = this.#work[queue]!;
    const { chain } = work;
    if (queue > 1) {
      for (const [address, length] of piecesOf(this.#memory, chain.writable)) {
        this.#report(Number(address), length);
      }
      this.#work[queue] = null;
      return;
    }
    const left = Math.floor((totalOf(chain.readable) - work.position) / 4);
    const count = Math.min(left, STEP);
    const bytes = readPart(
      this.#memory,
      chain.readable,
      work.position,
      4 * count,
    );
    const pages = [...new Uint32Array(bytes.buffer)];
    work.position += 4 * count;
    if (queue === 0) this.#inflate(pages);
    else this.#deflate(pages);
    if (count === left) this.#work[queue] = null;
  }

  #statistics(chain: ModelChain): void {
    this.counters.statistics++;
    const length = totalOf(chain.readable);
    const buffers = chain.readable.length + chain.writable.length;
    const truncated = buffers > 128;
    const count = truncated ? 0 : Math.min(Math.floor(length / 10), MOST_STATS);
    const bytes = readPart(this.#memory, chain.readable, 0, 10 * count);
    const view = new DataView(bytes.buffer);
    this.statistics = Array.from({ length: count }, (_, i) => [
      view.getUint16(10 * i, true),
      Number(view.getBigUint64(10 * i + 2, true)),
    ]);
    if (length !== 10 * count) this.refused.length++;
  }

  #regionOf(page: number, gone = false): PageRegion | undefined {
    const address = page * PAGE;
    return this.#regions.find((region) =>
      address >= region.address &&
      address + PAGE <= region.address + region.size &&
      (gone || this.#memory.holds(BigInt(address), PAGE))
    );
  }

  #hugeOf(region: PageRegion, page: number): string {
    const inFile = page * PAGE - region.address + region.offset;
    return `${region.address}:${Math.floor(inFile / region.unit)}`;
  }

  #inflate(pages: readonly number[]): void {
    this.counters.inflatedPages += pages.length;
    const sorted = [...new Set(pages)].sort((a, b) => a - b);
    let run: number[] = [];
    for (const page of sorted) {
      const region = this.#regionOf(page);
      if (region === undefined) {
        this.counters.badPages += pages.filter((one) => one === page).length;
        continue;
      }
      if (region.unit > PAGE) {
        this.#inflateHuge(region, page);
        continue;
      }
      run.push(page);
      const goesOn = sorted.includes(page + 1) &&
        this.#regionOf(page + 1) === region;
      if (goesOn) continue;
      const length = run.length * PAGE;
      if (region.unit > 0 && this.#discard(run[0] * PAGE, length)) {
        for (const one of run) this.#pages.add(one);
      } else this.counters.keptBytes += length;
      run = [];
    }
  }

  #inflateHuge(region: PageRegion, page: number): void {
    if (this.#pages.has(page)) return;
    this.#pages.add(page);
    const huge = this.#hugeOf(region, page);
    const whole = [...this.#pages].filter((one) =>
      this.#regionOf(one, true) === region && this.#hugeOf(region, one) === huge
    );
    if (whole.length < region.unit / PAGE) return;
    if (this.#discard(Math.min(...whole) * PAGE, region.unit)) {
      this.#gone.add(huge);
    }
  }

  #deflate(pages: readonly number[]): void {
    this.counters.deflatedPages += pages.length;
    for (const page of pages) {
      const region = this.#regionOf(page);
      if (region === undefined) this.counters.badPages++;
      else if (this.#pages.delete(page) && region.unit > PAGE) {
        this.#gone.delete(this.#hugeOf(region, page));
      }
    }
  }

  #report(address: number, length: number): void {
    const { counters } = this;
    counters.reportedBytes += length;
    counters.keptBytes += length;
    const poisoned = (this.#features & PAGE_POISON) !== 0n && this.poison !== 0;
    const region = this.#regions.find((one) =>
      address >= one.address && address < one.address + one.size
    );
    if (poisoned || region === undefined || region.unit === 0) return;
    const { unit } = region;
    const shift = region.offset - region.address;
    const start = Math.ceil((address + shift) / unit) * unit;
    const end = Math.floor((address + length + shift) / unit) * unit;
    if (end > start && this.#discard(start - shift, end - start)) {
      counters.keptBytes -= end - start;
    }
  }

  /** Pages go back to the host, unless something is in the way. */
  #discard(address: number, length: number): boolean {
    if (this.inhibited) return false;
    if (this.failing) {
      this.failures++;
      return false;
    }
    this.counters.discards++;
    this.counters.discardedBytes += length;
    this.#memory.erase(BigInt(address), length);
    return true;
  }
}
