/**
 * Requests with pages, worked on piece by piece.
 *
 * Theory of operation. A request is a chain of any length: page numbers to read
 * (inflate, deflate), or memory itself (reports). A driver may make it as long
 * as it likes, so one that is not small is done in steps, and between two steps
 * the other rings have their turn. Each queue works on one chain at a time; the
 * chain is answered when its last piece is done. A ring that stops in between
 * gets its chain back unanswered: to do a part of it again does no harm, because
 * nobody was told that it was done.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import type { VirtQueue } from "../../virtqueue/device.ts";
import { type BalloonMetrics, REFUSALS } from "./metrics.ts";
import { PFN_SIZE, QUEUE_COUNT } from "./protocol.ts";
import type { Reclaimer } from "./reclaim.ts";

/** Page numbers of one step: at worst as many system calls. */
const STEP_PAGES = 256;
/** Bytes of one step of a report. */
const STEP_BYTES = 64 * 2 ** 20;

/** What a queue is for. */
export type Role = "inflate" | "deflate" | "report";

/** The chain that a queue works on. */
interface Work {
  chain: DescriptorChain | null;
  role: Role;
  /** Bytes of the page numbers, or of the segment, that are done. */
  position: number;
  /** Segment of a report. */
  segment: number;
}

/** Works on the chains of all queues of a balloon. */
export class PageRequests {
  /** True: the contents of reported pages matter, none is given back. */
  keepReports = false;
  readonly #reclaimer: Reclaimer;
  readonly #metrics: BalloonMetrics;
  readonly #work: readonly Work[] = Array.from(
    { length: QUEUE_COUNT },
    (): Work => ({ chain: null, role: "inflate", position: 0, segment: 0 }),
  );
  readonly #batch = new Uint32Array(STEP_PAGES);

  /** Gives pages to `reclaimer`. */
  constructor(reclaimer: Reclaimer, metrics: BalloonMetrics) {
    this.#reclaimer = reclaimer;
    this.#metrics = metrics;
  }

  /** Whether a queue has a chain in work. */
  busy(queue: number): boolean {
    return this.#work[queue].chain !== null;
  }

  /**
   * Starts a chain: its first step.
   *
   * @returns true when it is done and answered.
   */
  start(chain: DescriptorChain, role: Role): boolean {
    const work = this.#work[chain.queue.index];
    work.chain = chain;
    work.role = role;
    work.position = 0;
    work.segment = chain.readableCount;
    if (chain.truncated) {
      this.#metrics.refuse(REFUSALS.segments);
      return this.#finish(work, chain);
    }
    const listed = role === "report" ? 0 : chain.readableLength;
    if (role !== "report" && (listed === 0 || listed % PFN_SIZE !== 0)) {
      this.#metrics.refuse(REFUSALS.length);
    }
    return this.#step(work, chain);
  }

  /** One step for each queue that has a chain in work; their number. */
  steps(): number {
    let count = 0;
    for (let queue = 0; queue < QUEUE_COUNT; queue++) {
      const work = this.#work[queue];
      if (work.chain === null) continue;
      this.#step(work, work.chain);
      count++;
    }
    return count;
  }

  /** Gives the chain of a queue back to it, if there is one. */
  giveBack(queue: VirtQueue): void {
    const work = this.#work[queue.index];
    if (work.chain !== null) queue.untake(work.chain);
    work.chain = null;
  }

  #step(work: Work, chain: DescriptorChain): boolean {
    const done = work.role === "report"
      ? this.#report(work, chain)
      : this.#list(work, chain);
    return done && this.#finish(work, chain);
  }

  #finish(work: Work, chain: DescriptorChain): true {
    work.chain = null;
    this.#metrics.completed++;
    chain.queue.complete(chain, 0);
    return true;
  }

  /** Works on the next page numbers; true when there are no more. */
  #list(work: Work, chain: DescriptorChain): boolean {
    const batch = this.#batch;
    const left = Math.floor((chain.readableLength - work.position) / PFN_SIZE);
    const count = left < STEP_PAGES ? left : STEP_PAGES;
    for (let i = 0; i < count; i++) {
      batch[i] = chain.readUint32(work.position + i * PFN_SIZE);
    }
    work.position += count * PFN_SIZE;
    if (work.role === "inflate") {
      // Sorted, pages that lie side by side go as one. What is not used comes last.
      if (count < STEP_PAGES) batch.fill(0xffff_ffff, count);
      batch.sort();
      this.#reclaimer.inflate(batch, count);
    } else this.#reclaimer.deflate(batch, count);
    return count === left;
  }

  /** Works on the next segments; true when there are no more. */
  #report(work: Work, chain: DescriptorChain): boolean {
    let room = STEP_BYTES;
    while (work.segment < chain.count) {
      if (room === 0) return false;
      const left = chain.length(work.segment) - work.position;
      const address = chain.address(work.segment) + work.position;
      const piece = left <= room || this.#reclaimer.isHuge(address)
        ? left
        : room;
      if (this.keepReports) this.#reclaimer.keep(piece);
      else this.#reclaimer.release(address, piece);
      room = Math.max(0, room - piece);
      work.position += piece;
      if (piece === left) {
        work.segment++;
        work.position = 0;
      }
    }
    return true;
  }
}
