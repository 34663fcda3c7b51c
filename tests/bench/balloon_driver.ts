/**
 * Balloons that our own driver moves: what our code costs, without a guest.
 *
 * @module
 */

import { DATA_BASE, PAGE } from "../protocol/balloon.ts";
import { BalloonGuest, DEFLATE, INFLATE } from "../protocol/balloon.ts";
import { punchHole } from "../../sys/hole.ts";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { type BalloonProcess, threadSeconds } from "./balloon_process.ts";

/** Page numbers of one request, as Linux and FreeBSD make them. */
const BATCH = 256;

/** How pages come: one after the other, backwards, or no two side by side. */
export type PageOrder = "ascending" | "descending" | "scattered";

/** One way, measured. */
export interface Movement {
  /** GiB of the balloon in a second. */
  readonly rate: number;
  /** CPU seconds of the back-end for a GiB. */
  readonly cpu: number;
}

/** Indices of `count` pages in an order. */
export function orderOf(order: PageOrder, count: number): Uint32Array {
  const pages = Uint32Array.from({ length: count }, (_, i) => i);
  if (order === "descending") return pages.reverse();
  if (order === "ascending") return pages;
  // All even pages, then all odd ones: no batch has two neighbours.
  const half = Math.ceil(count / 2);
  return pages.map((i) => i < half ? 2 * i : 2 * (i - half) + 1);
}

/**
 * Fills a balloon with all memory and empties it.
 *
 * @param depth requests in flight: 1, as all drivers do, or more
 */
export async function moveBalloon(
  balloon: BalloonProcess,
  socket: string,
  options: { memory: number; order: PageOrder; depth: number },
): Promise<{ inflate: Movement; deflate: Movement }> {
  const { memory, order, depth } = options;
  using guest = await BalloonGuest.run(socket, { memory });
  const list = orderOf(order, memory / PAGE).map((i) => i + DATA_BASE / PAGE);
  const gibibytes = memory / 2 ** 30;
  const results: Movement[] = [];
  for (const queue of [INFLATE, DEFLATE]) {
    const cpu = threadSeconds(balloon.pid), start = performance.now();
    await sendAll(guest, queue, list, depth);
    const seconds = (performance.now() - start) / 1000;
    results.push({
      rate: gibibytes / seconds,
      cpu: (threadSeconds(balloon.pid) - cpu) / gibibytes,
    });
    if (queue === INFLATE && guest.allocated > 0) {
      throw new Error(`${guest.allocated} bytes are still there`);
    }
  }
  const [inflate, deflate] = results;
  return { inflate, deflate };
}

async function sendAll(
  guest: BalloonGuest,
  queue: number,
  list: Uint32Array,
  depth: number,
): Promise<void> {
  const driver = guest.driver(queue), { memory } = driver;
  const lists = Array.from(
    { length: depth },
    () => memory.allocate(BATCH * 4, 4),
  );
  const free = [...lists], used = new Map<number, number>();
  let at = 0;
  while (at < list.length || used.size > 0) {
    while (at < list.length && free.length > 0) {
      const address = free.pop()!;
      const batch = list.subarray(at, at + BATCH);
      memory.write(
        address,
        new Uint8Array(batch.buffer, batch.byteOffset, batch.byteLength),
      );
      const length = batch.byteLength;
      used.set(driver.submit([{ address, length, write: false }]), address);
      at += BATCH;
    }
    if (driver.kickNeeded()) guest.frontEnd.kick(queue);
    for (const { token } of await guest.complete(queue)) {
      free.push(used.get(token)!);
      used.delete(token);
    }
  }
  for (const address of lists) memory.free(address, BATCH * 4);
}

/** GiB a second that the kernel gives back when asked for a MiB at a time. */
export function bareKernel(memory: number): number {
  using region = SharedRegion.create(DATA_BASE, memory);
  region.bytes.fill(1);
  const start = performance.now();
  for (let at = 0; at < memory; at += BATCH * PAGE) {
    const result = punchHole(region.fd, at, BATCH * PAGE);
    if (result !== 0) throw new Error(`fallocate: ${result}`);
  }
  return memory / 2 ** 30 / ((performance.now() - start) / 1000);
}
