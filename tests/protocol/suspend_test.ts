/** Rings that stop with requests in flight, at a real server over io_uring. */

import { assertEquals } from "@std/assert";
import { mapFile } from "../../sys/mapping.ts";
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

/** Requests that are noted as in flight in the area of one split queue. */
function noted(area: InflightMemory): number {
  using mapping = mapFile(area.fd, { size: area.description.mmapSize });
  const bytes = new Uint8Array(mapping.buffer);
  let count = 0;
  for (let head = 0; head < area.description.queueSize; head++) {
    count += bytes[16 * (head + 1)];
  }
  return count;
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
): Promise<number> {
  using guest = await Guest.connect(disk.socket, { copy: false });
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
    return ring?.inFlight > 0 || driver.usedIndex === DEPTH;
  }, { what: "reads in flight", interval: 0 });
  if (disable) await frontEnd.setVringEnable(0, false);
  const position = await frontEnd.getVringBase(0);
  reads.mark();
  const used = driver.usedIndex;
  readFromMedium(disk.image);
  assertEquals(reads.changed, 0, "pages were written after the answer");
  assertEquals(driver.usedIndex, used, "the ring was written after the answer");
  assertEquals(noted(area), position - used);

  await frontEnd.setVringBase(0, position);
  await frontEnd.setVringKick(0);
  if (disable) await frontEnd.setVringEnable(0, true);
  for (const { length } of await guest.complete(DEPTH)) {
    assertEquals(length, READ_LENGTH);
  }
  assertEquals(noted(area), 0);
  // Those that were not done before were done now, as a whole.
  const pages = reads.region.size / 4096;
  assertEquals(reads.changed, (DEPTH - used) * pages / DEPTH);
  return position - used;
}

for (const disable of [false, true]) {
  const how = disable ? "ENABLE 0 and GET_VRING_BASE" : "GET_VRING_BASE";
  slowly.test(`${how}: reads that are left end undone, and are done by the next start`, async () => {
    await using disk = await ServedDisk.start(SLOW, { sectors: SECTORS });
    for (let i = 0; i < ATTEMPTS; i++) {
      if (await suspended(disk, disable) > 0) return;
    }
    throw new Error(`No read was left in flight, ${ATTEMPTS} times`);
  });
}
