/**
 * Gives guest memory back to the host, and knows what was given back.
 *
 * Theory of operation. A page of the balloon is 4 KiB of guest addresses; a
 * page of the host may be a huge one. Space is given back by punching holes
 * into the file that backs a region, which unmaps the pages from every process:
 * the guest, when it touches one again, finds zeros.
 *
 * Where the host's pages have 4 KiB, a run of consecutive pages is one hole,
 * and `#pages` holds the pages that are gone. Where they are larger, `#pages`
 * holds the pages that are in the balloon, and `#counts` how many of each host
 * page are: when all are, the host page goes as a whole, and is marked GONE.
 * A page that comes out of the balloon needs no work: it is there again when it
 * is touched. A host page of which one page came out counts again from there.
 *
 * While writes are logged, nothing is given back: a page that changes without a
 * mark in the log would be copied or not by chance. Pages of the balloon wait, and
 * go when logging has ended, some in each turn, if the driver promised to take none
 * out without asking (MUST_TELL_HOST); a range that was reported is the driver's
 * again as soon as the report is answered, so it stays.
 *
 * Nothing is given back that the driver did not name, and of that nothing which
 * does not lie in a region of guest memory: every page is looked up there. What
 * lies in a region that is no shared file is kept, and said once.
 *
 * @module
 */

import { errnoName, errnoText } from "../../sys/errno.ts";
import type { LogLevel } from "../../virtqueue/device.ts";
import type { GuestMemory } from "../../virtqueue/memory.ts";
import type { BalloonMetrics } from "./metrics.ts";
import type { PageHost } from "./page_host.ts";
import { PageSet } from "./page_set.ts";
import { BALLOON_PAGE_SIZE } from "./protocol.ts";

/** In place of a count: the host page was given back as a whole. */
const GONE = -1;
/** Pages that waited and go in one turn. */
const STEP_PAGES = 512;
/** Warnings about regions at most; each is given once. */
const MAX_WARNINGS = 64;

/** Gives pages back. */
export class Reclaimer {
  /** True while nothing may be given back, because writes are logged. */
  inhibited = false;
  /** Whether pages may be given back later than the driver named them. */
  deferrable = false;
  readonly #memory: GuestMemory;
  readonly #host: PageHost;
  readonly #metrics: BalloonMetrics;
  readonly #log: (level: LogLevel, message: string) => void;
  readonly #warnings = new Set<string>();
  readonly #pages = new PageSet();
  /** Pages in the balloon by the guest address of their huge page. */
  readonly #counts = new Map<number, number>();
  /** Pages in the balloon that are to go when writes are not logged any more. */
  readonly #waiting = new PageSet();
  /** Huge pages of that kind, all of whose pages are in the balloon. */
  readonly #hugeWaiting = new Set<number>();
  readonly #batch = new Uint32Array(STEP_PAGES);
  /** Bytes of the huge pages that are gone. */
  #hugeBytes = 0;
  /** Pages in `#pages` that are parts of huge pages. */
  #hugePages = 0;
  // Of each region, by its id, as of `#generation`.
  #generation = -1;
  readonly #fds: number[] = [];
  /** Offset in the file of guest address 0. */
  readonly #shifts: number[] = [];
  /** Page size of the host; 0: the region is kept. */
  readonly #units: number[] = [];

  /** Works on `memory`, and counts in `metrics`. */
  constructor(
    memory: GuestMemory,
    host: PageHost,
    metrics: BalloonMetrics,
    log: (level: LogLevel, message: string) => void,
  ) {
    this.#memory = memory;
    this.#host = host;
    this.#metrics = metrics;
    this.#log = log;
  }

  /** Bytes of the balloon that the host has back. */
  get reclaimed(): number {
    return (this.#pages.size - this.#hugePages) * BALLOON_PAGE_SIZE +
      this.#hugeBytes;
  }

  /** Bytes of the balloon that are parts of huge pages and wait for the rest. */
  get partial(): number {
    return this.#hugePages * BALLOON_PAGE_SIZE - this.#hugeBytes;
  }

  /** Bytes of the balloon that go when writes are not logged any more. */
  get waiting(): number {
    let bytes = this.#waiting.size * BALLOON_PAGE_SIZE;
    for (const start of this.#hugeWaiting) {
      bytes += (this.#counts.get(start) ?? 0) * BALLOON_PAGE_SIZE;
    }
    return bytes;
  }

  /** Bytes of all regions. */
  get memorySize(): number {
    return this.#memory.regions.reduce((sum, { size }) => sum + size, 0);
  }

  /** Looks at the regions, if they changed. */
  refresh(): void {
    const memory = this.#memory;
    if (this.#generation === memory.generation) return;
    this.#generation = memory.generation;
    for (const { guestAddress, size } of memory.regions) {
      const id = memory.find(guestAddress, size);
      const backing = memory.backing(id);
      const objection = this.#objection(id);
      this.#fds[id] = backing?.fd ?? -1;
      this.#shifts[id] = (backing?.offset ?? 0) - guestAddress;
      this.#units[id] = objection === null ? backing!.pageSize : 0;
      if (objection !== null) {
        this.#warnOnce(
          `Cannot give back the ${size} bytes of guest memory at ` +
            `0x${
              guestAddress.toString(16)
            }: ${objection}; share a memfd or a ` +
            "file (memory-backend-memfd,share=on)",
        );
      }
    }
  }

  /**
   * Puts pages into the balloon.
   *
   * @param sorted page numbers, ascending; the same one may come repeatedly
   * @param count how many of them
   */
  inflate(sorted: Uint32Array, count: number): void {
    this.#metrics.badPages += this.#take(sorted, count);
    this.#metrics.inflatedPages += count;
  }

  /**
   * Gives back some of what waited, when nothing is in the way any more.
   *
   * @returns number of steps made
   */
  resume(): number {
    if (this.inhibited) return 0;
    if (this.#waiting.size > 0) {
      const batch = this.#batch;
      let count = 0, page = this.#waiting.next(0);
      while (page >= 0 && count < batch.length) {
        batch[count++] = page;
        this.#waiting.delete(page);
        page = page < 0xffff_ffff ? this.#waiting.next(page + 1) : -1;
      }
      this.#take(batch, count);
      return 1;
    }
    for (const start of this.#hugeWaiting) {
      this.#hugeWaiting.delete(start);
      this.#giveHuge(start);
      return 1;
    }
    return 0;
  }

  /** Puts pages into the balloon; the number of those that lie nowhere. */
  #take(sorted: Uint32Array, count: number): number {
    this.refresh();
    const memory = this.#memory;
    let bad = 0;
    for (let i = 0; i < count;) {
      const first = sorted[i];
      const id = memory.find(first * BALLOON_PAGE_SIZE, BALLOON_PAGE_SIZE);
      if (id < 0) {
        bad++;
        i++;
        continue;
      }
      const limit = (memory.regionAddress(id) + memory.regionSize(id)) /
          BALLOON_PAGE_SIZE - 1;
      let end = first + 1;
      for (i++; i < count; i++) {
        const page = sorted[i];
        if (page === end && end <= limit) end++;
        else if (page !== end - 1) break;
      }
      const unit = this.#units[id];
      if (unit === BALLOON_PAGE_SIZE) this.#takeRun(id, first, end);
      else if (unit > BALLOON_PAGE_SIZE) this.#takeHuge(id, first, end);
      else this.#metrics.keptBytes += (end - first) * BALLOON_PAGE_SIZE;
    }
    return bad;
  }

  /** Takes pages out of the balloon. */
  deflate(pages: Uint32Array, count: number): void {
    this.refresh();
    for (let i = 0; i < count; i++) {
      const page = pages[i], address = page * BALLOON_PAGE_SIZE;
      const id = this.#memory.find(address, BALLOON_PAGE_SIZE);
      if (id < 0) this.#metrics.badPages++;
      else if (this.#pages.delete(page)) {
        const unit = this.#units[id];
        if (unit > BALLOON_PAGE_SIZE) this.#returnHuge(id, address, unit);
      } else this.#waiting.delete(page);
    }
    this.#metrics.deflatedPages += count;
  }

  /**
   * Gives a range back that the driver does not use at the moment. What is not
   * a whole page of the host is kept.
   *
   * @param address guest address of the first byte, in guest memory
   * @param length in bytes; the range lies in one region
   */
  release(address: number, length: number): void {
    this.refresh();
    const metrics = this.#metrics;
    metrics.reportedBytes += length;
    const id = this.#memory.find(address, length);
    const unit = id < 0 ? 0 : this.#units[id];
    if (unit === 0) {
      metrics.keptBytes += length;
      return;
    }
    const shift = this.#shifts[id];
    const start = Math.ceil((address + shift) / unit) * unit;
    const end = Math.floor((address + length + shift) / unit) * unit;
    const size = Math.max(0, end - start);
    if (size > 0 && this.#punch(id, start, size)) {
      metrics.keptBytes += length - size;
    } else metrics.keptBytes += length;
  }

  /** Whether the host's pages at an address are huge: they are few, and go whole. */
  isHuge(address: number): boolean {
    this.refresh();
    const id = this.#memory.find(address, 1);
    return id >= 0 && this.#units[id] > BALLOON_PAGE_SIZE;
  }

  /** Counts a range that is kept for a reason of the caller's. */
  keep(length: number): void {
    this.#metrics.reportedBytes += length;
    this.#metrics.keptBytes += length;
  }

  /** The balloon is empty: the driver was reset. */
  clear(): void {
    this.#pages.clear();
    this.#waiting.clear();
    this.#hugeWaiting.clear();
    this.#counts.clear();
    this.#hugeBytes = 0;
    this.#hugePages = 0;
  }

  #objection(id: number): string | null {
    const backing = this.#memory.backing(id);
    if (backing === null) return "nothing backs it that is shared";
    const shift = backing.offset - this.#memory.regionAddress(id);
    if (shift % BALLOON_PAGE_SIZE !== 0) {
      return `its pages do not lie at pages of the file (offset ${backing.offset})`;
    }
    return this.#host.objection(backing.fd);
  }

  /** Regions come and go; what is wrong with one stays wrong. */
  #warnOnce(message: string): void {
    const { size } = this.#warnings;
    if (size >= MAX_WARNINGS || this.#warnings.has(message)) return;
    this.#warnings.add(message);
    this.#log("warn", message);
  }

  #takeRun(id: number, first: number, end: number): void {
    const length = (end - first) * BALLOON_PAGE_SIZE;
    const offset = first * BALLOON_PAGE_SIZE + this.#shifts[id];
    if (this.inhibited && this.deferrable) {
      for (let page = first; page < end; page++) {
        if (!this.#pages.has(page)) this.#waiting.add(page);
      }
      return;
    }
    if (!this.#punch(id, offset, length)) {
      this.#metrics.keptBytes += length;
      return;
    }
    for (let page = first; page < end; page++) this.#pages.add(page);
  }

  #takeHuge(id: number, first: number, end: number): void {
    const unit = this.#units[id], shift = this.#shifts[id];
    const whole = unit / BALLOON_PAGE_SIZE;
    for (let page = first; page < end; page++) {
      if (!this.#pages.add(page)) continue;
      this.#hugePages++;
      const start = hugePage(page * BALLOON_PAGE_SIZE, shift, unit);
      const count = (this.#counts.get(start) ?? 0) + 1;
      this.#counts.set(start, count);
      if (count !== whole) continue;
      if (this.inhibited && this.deferrable) this.#hugeWaiting.add(start);
      else this.#giveHuge(start);
    }
  }

  /** Gives a huge page back, all of whose pages are in the balloon. */
  #giveHuge(start: number): void {
    this.refresh();
    const id = this.#memory.find(start, BALLOON_PAGE_SIZE);
    const unit = id < 0 ? 0 : this.#units[id];
    if (
      unit > BALLOON_PAGE_SIZE && this.#memory.find(start, unit) >= 0 &&
      this.#punch(id, start + this.#shifts[id], unit)
    ) {
      this.#counts.set(start, GONE);
      this.#hugeBytes += unit;
    }
  }

  #returnHuge(id: number, address: number, unit: number): void {
    const start = hugePage(address, this.#shifts[id], unit);
    const count = this.#counts.get(start);
    if (count === undefined) return;
    this.#hugeWaiting.delete(start);
    this.#hugePages--;
    if (count === GONE) {
      this.#counts.set(start, unit / BALLOON_PAGE_SIZE - 1);
      this.#hugeBytes -= unit;
    } else if (count > 1) this.#counts.set(start, count - 1);
    else this.#counts.delete(start);
  }

  /** Punches a hole, unless something is in its way. */
  #punch(id: number, offset: number, length: number): boolean {
    if (this.inhibited) return false;
    const result = this.#host.punchHole(this.#fds[id], offset, length);
    if (result === 0) {
      this.#metrics.discards++;
      this.#metrics.discardedBytes += length;
      return true;
    }
    if (this.#metrics.fail(-result)) {
      const address = offset - this.#shifts[id];
      this.#log(
        "warn",
        `Cannot give back ${length} bytes at guest address ` +
          `0x${address.toString(16)}: ${errnoText(-result)} ` +
          `(${errnoName(-result)})`,
      );
    }
    return false;
  }
}

/** Guest address of the first byte of the host's page that holds an address. */
function hugePage(address: number, shift: number, unit: number): number {
  return Math.floor((address + shift) / unit) * unit - shift;
}
