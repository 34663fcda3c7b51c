/**
 * How a ring ends.
 *
 * Theory of operation. The loop is in the middle of a command, so it turns from
 * here until the device has nothing of the ring any more; other devices go on
 * meanwhile. A ring is drained: the device does what it has taken. Or it is
 * suspended: the device gives up what it can, which stays noted where requests
 * are tracked, and ends the rest. Each is asked for again as long as requests
 * stay, since one that could not be given up may come to where it can.
 *
 * @module
 */

import type { LogLevel, VirtioDevice } from "../../virtqueue/device.ts";
import { BUDGET, type Ring } from "./ring.ts";

/** How often to say that requests do not end, in ms. */
const PATIENCE = 5_000;
/** How often to ask a device to give up what it has of a ring, in ms. */
const AGAIN = 50;

/** Where a ring ends. */
export interface RingPlace {
  /** The device that serves it. */
  readonly device: VirtioDevice;
  /** One turn of the loop, in which no ring of the device gives new chains. */
  readonly turn: () => void;
  /** Takes what people should know. */
  readonly log: (level: LogLevel, message: string) => void;
}

/** Waits until the device has done all that it took of a ring. */
export function drain(ring: Ring, place: RingPlace): void {
  const { queue } = ring, { device, turn } = place;
  const quiesce = (): void => device.quiesce?.(queue);
  // What a predecessor left is in no ring: it is done now, as far as it can be.
  let asked = false;
  while (queue.recovering > 0 && queue.broken === null) {
    const left = queue.recovering;
    device.serve(queue, BUDGET);
    turn();
    const taken = queue.recovering < left;
    if (!taken) {
      if (asked && queue.ready) break;
      // It may take none because of those that it holds.
      quiesce();
      // It gave back what it cannot end.
      if (queue.recovering > left) break;
    }
    asked = !taken;
  }
  quiesce();
  awaitEnd(ring, place, quiesce);
}

/** Has a device that can `suspend` give up, or end, what it has of a ring. */
export function suspend(ring: Ring, place: RingPlace): void {
  const { device } = place;
  ring.publish();
  device.suspend!(ring.queue);
  awaitEnd(ring, place, () => device.suspend!(ring.queue));
}

function awaitEnd(ring: Ring, { turn, log }: RingPlace, again: () => void) {
  const { queue } = ring;
  const start = performance.now();
  let said = start, asked = start;
  while (queue.inFlight > 0) {
    turn();
    ring.publish();
    const now = performance.now();
    if (now - asked >= AGAIN) {
      asked = now;
      again();
    }
    if (now - said < PATIENCE) continue;
    said = now;
    const left = `${queue.inFlight} requests`;
    const since = `${Math.round((now - start) / 1000)} s`;
    log("warn", `queue ${queue.index} waits for ${left}, since ${since}`);
  }
  ring.publish();
}
