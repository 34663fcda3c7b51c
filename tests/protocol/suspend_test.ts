/** Rings that stop with requests in flight, at a real server over io_uring. */

import { assertEquals } from "@std/assert";
import { mapFile } from "../../sys/mapping.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import type { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { InflightMemory } from "../../vhost/testing/inflight_memory.ts";
import { waitUntil } from "../support/deadline.ts";
import { Guest, ServedDisk } from "./disk.ts";
import {
  ATTEMPTS,
  DEPTH,
  READ_LENGTH,
  readFromMedium,
  SECTORS,
  SLOW,
  slowly,
  SlowReads,
} from "./slow_reads.ts";

/** AVAIL and USED of a packed descriptor: both are set where the first lap is used. */
const USED = 0x8080;

/** Requests that are noted as in flight in the area of one queue. */
function noted(area: InflightMemory, entry: number): number {
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  const bytes = new Uint8Array(mapping.buffer);
  let count = 0;
  for (let head = 0; head < area.description.queueSize; head++) {
    count += bytes[entry * (head + 1)];
  }
  return count;
}

/** Requests that a ring shows as answered, of those that came first. */
function answered(driver: FakeDriver | FakePackedDriver): number {
  if (driver instanceof FakeDriver) return driver.usedIndex;
  let count = 0;
  while ((driver.descriptor(count).flags & USED) === USED) count++;
  return count;
}

/** Requests that are in flight where a ring stopped with so many answered. */
function inFlightAt(position: number, used: number, packed: boolean): number {
  if (!packed) return position - used;
  // Both positions have a wrap counter, that of the first lap.
  assertEquals(position >>> 16, 0x8000 | used);
  return (position & 0xffff) - (0x8000 | used);
}

/**
 * Stops a ring with reads in flight, looks at what is written afterwards, and
 * starts it again.
 *
 * @returns how many were left in flight
 */
async function suspended(
  disk: ServedDisk,
  disable: boolean,
  packed: boolean,
): Promise<number> {
  const connect = packed ? Guest.connectPacked : Guest.connect;
  using guest = await connect(disk.socket, { copy: false });
  using reads = new SlowReads(guest);
  const { frontEnd, drivers: [driver] } = guest;
  await frontEnd.addMemReg(guest.region);
  await frontEnd.addMemReg(reads.region);
  using area = await InflightMemory.get(frontEnd, 1, driver.size);
  await area.set(frontEnd);
  await guest.start();
  reads.submit();
  await waitUntil(async () => {
    const [ring] = (await disk.server.status()).rings as { inFlight: number }[];
    return ring?.inFlight > 0 || answered(driver) === DEPTH;
  }, { what: "reads in flight", interval: 0 });
  if (disable) await frontEnd.setVringEnable(0, false);
  const position = await frontEnd.getVringBase(0);
  reads.mark();
  const used = answered(driver);
  const left = inFlightAt(position, used, packed);
  const entry = packed ? 32 : 16;
  readFromMedium(disk.image);
  assertEquals(reads.changed, 0, "pages were written after the answer");
  assertEquals(answered(driver), used, "the ring was written after the answer");
  assertEquals(noted(area, entry), left);

  await frontEnd.setVringBase(0, position);
  await frontEnd.setVringKick(0);
  if (disable) await frontEnd.setVringEnable(0, true);
  for (const { length } of await guest.complete(DEPTH)) {
    assertEquals(length, READ_LENGTH);
  }
  assertEquals(noted(area, entry), 0);
  // Those that were not done before were done now, as a whole.
  const pages = reads.region.size / 4096;
  assertEquals(reads.changed, (DEPTH - used) * pages / DEPTH);
  return left;
}

for (const packed of [false, true]) {
  for (const disable of [false, true]) {
    const how = `${packed ? "packed" : "split"}, ${
      disable ? "ENABLE 0 and GET_VRING_BASE" : "GET_VRING_BASE"
    }`;
    slowly.test(`${how}: reads that are left end undone, and are done by the next start`, async () => {
      await using disk = await ServedDisk.start(SLOW, { sectors: SECTORS });
      for (let i = 0; i < ATTEMPTS; i++) {
        if (await suspended(disk, disable, packed) > 0) return;
      }
      throw new Error(`No read was left in flight, ${ATTEMPTS} times`);
    });
  }
}
