/**
 * A model check of the notification protocol of split rings, see
 * `testing/notification_suite.ts`, with the bugs that only these can have.
 */

import fc from "fast-check";
import { needEvent } from "./notification.ts";
import { FakeDriver } from "./testing/driver.ts";
import { type Bug, testNotifications } from "./testing/notification_suite.ts";
import { startQueue } from "./testing/queue.ts";

/** Decides about notifications with `used_event` off by some entries. */
function eventOffBy(error: number): Bug<FakeDriver> {
  return (queue, driver) => {
    const publish = queue.publish.bind(queue);
    queue.publish = () => {
      const previous = driver.usedIndex;
      publish();
      const next = driver.usedIndex;
      return needEvent((driver.usedEvent + error) & 0xffff, next, previous);
    };
  };
}

/** Reads what the driver wants before it publishes. */
const wishFirst: Bug<FakeDriver> = (queue, driver) => {
  const publish = queue.publish.bind(queue);
  queue.publish = () => {
    const event = driver.usedEvent;
    const flags = driver.availableFlags;
    const previous = driver.usedIndex;
    publish();
    const next = driver.usedIndex;
    if (next === previous) return false;
    return driver.eventIdx
      ? needEvent(event, next, previous)
      : (flags & 1) === 0;
  };
};

testNotifications({
  prefix: "",
  parties: {
    driver: (memory, options) => new FakeDriver(memory, options),
    queue: (driver) => startQueue(driver),
  },
  rings: [[2, 0], [4, 65534], [8, 65533]],
  sizes: [1, 2, 4, 8],
  starts: fc.constantFrom(0, 65535, 65530, 32767),
  bugs: [
    ["used_event or flags read too early", wishFirst, [false, true]],
    ["used_event off by one upwards", eventOffBy(1), [true]],
    ["used_event off by one downwards", eventOffBy(-1), [true]],
  ],
});
