/**
 * A model check of the notification protocol of packed rings, see
 * `testing/notification_suite.ts`, with the bugs that only these can have.
 */

import fc from "fast-check";
import { needPackedEvent } from "./notification.ts";
import { decodePosition, encodePosition } from "./packed_ring.ts";
import type { RunningQueue } from "./queue.ts";
import { type Bug, testNotifications } from "./testing/notification_suite.ts";
import { FakePackedDriver } from "./testing/packed_driver.ts";
import { startPacked } from "./testing/queue.ts";

/** Whether an event structure wants to know of a step. */
function wants(
  event: number,
  driver: FakePackedDriver,
  next: number,
  previous: number,
): boolean {
  if (next === previous) return false;
  return event >>> 16 === 2
    ? needPackedEvent(event & 0xffff, next, previous, driver.size)
    : event >>> 16 === 0;
}

/** The position up to which answers were given. */
function usedOf(queue: RunningQueue, size: number): number {
  return decodePosition(queue.base >>> 16, size);
}

/** Reads what the driver wants before it publishes. */
const wishFirst: Bug<FakePackedDriver> = (queue, driver) => {
  const publish = queue.publish.bind(queue);
  let published = usedOf(queue, driver.size);
  queue.publish = () => {
    const previous = published;
    const event = driver.driverEvent;
    publish();
    published = usedOf(queue, driver.size);
    return wants(event, driver, published, previous);
  };
};

/** Takes the descriptor that the driver named for that of another lap. */
const wrongLap: Bug<FakePackedDriver> = (queue, driver) => {
  const { size } = driver;
  const publish = queue.publish.bind(queue);
  let published = usedOf(queue, size);
  queue.publish = () => {
    const previous = published;
    publish();
    const next = published = usedOf(queue, size);
    const event = driver.driverEvent;
    if (event >>> 16 !== 2) return wants(event, driver, next, previous);
    const at = decodePosition(event & 0xffff, size);
    const other = encodePosition((at + size) % (2 * size), size);
    return wants(2 << 16 | other, driver, next, previous);
  };
};

testNotifications({
  prefix: "packed: ",
  parties: {
    driver: (memory, { size = 1, start = 0, ...options }) =>
      new FakePackedDriver(memory, {
        ...options,
        size,
        start: encodePosition(start % (2 * size), size),
      }),
    queue: (driver) => startPacked(driver),
  },
  rings: [[2, 0], [3, 5], [7, 4]],
  sizes: [1, 2, 3, 7, 8],
  starts: fc.nat(15),
  bugs: [
    ["driver event read too early", wishFirst, [false, true]],
    ["driver event of another lap", wrongLap, [true]],
  ],
});
