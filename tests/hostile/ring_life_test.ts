/**
 * Defects that other back-ends had in the life of a ring, in its notifications
 * and in what they offer; each of them made a guest stall or lose data. Here
 * front-end and driver behave well.
 */

import { assert, assertEquals } from "@std/assert";
import { decodeConfig } from "../../backends/blk/protocol.ts";
import { FakeDriver } from "../../virtqueue/testing/driver.ts";
import {
  Guest,
  header,
  SECTOR,
  ServedDisk,
  T_FLUSH,
  T_IN,
  T_OUT,
} from "../protocol/disk.ts";

const EVENT_IDX = 1n << 29n;

/** Makes a read available without a kick. */
function submitSilently(guest: Guest, sector: number, ring = 0): void {
  guest.drivers[ring].submit([
    { readable: header(T_IN, sector) },
    { writable: SECTOR },
    { writable: 1 },
  ], { indirect: true });
}

/** Waits for as many reads, and verifies them. */
async function collect(
  guest: Guest,
  sectors: readonly number[],
  ring = 0,
): Promise<void> {
  const done = await guest.complete(sectors.length, ring);
  const stamps = done.map(({ data }) => {
    assertEquals(data[SECTOR], 0);
    return new Uint32Array(data.slice(0, 4).buffer)[0];
  });
  assertEquals(stamps.toSorted((a, b) => a - b), [...sectors]);
}

Deno.test("a kick that is readable before the ring is enabled is served", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.connect(disk.socket);
  const { frontEnd, drivers: [driver], region } = guest;
  await frontEnd.setFeatures(frontEnd.features);
  await frontEnd.addMemReg(region);
  submitSilently(guest, 5);
  frontEnd.kick(0);
  await frontEnd.setupRing(0, driver);
  submitSilently(guest, 6);
  frontEnd.kick(0);
  assertEquals(driver.usedIndex, 0);
  await frontEnd.setVringEnable(0, true);
  await collect(guest, [5, 6]);
});

Deno.test("what is available when a ring starts is served without a kick", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.connect(disk.socket);
  submitSilently(guest, 5);
  await guest.start();
  await collect(guest, [5]);
  // Nor is one needed when it is stopped and started again.
  const position = await guest.frontEnd.getVringBase(0);
  submitSilently(guest, 6);
  await guest.frontEnd.setupRing(0, guest.drivers[0], position);
  await collect(guest, [6]);
});

Deno.test("GET_VRING_BASE leaves a ring enabled", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  for (let i = 0; i < 10; i++) {
    assertEquals((await guest.request(T_IN, i, SECTOR)).status, 0);
    const position = await guest.frontEnd.getVringBase(0);
    assertEquals(position, i + 1);
    await guest.frontEnd.setVringBase(0, position);
    await guest.frontEnd.setVringKick(0);
  }
  assertEquals((await guest.request(T_IN, 9, SECTOR)).status, 0);
});

Deno.test("SET_FEATURES leaves rings running", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  for (let i = 0; i < 10; i++) {
    guest.submit(T_IN, i, SECTOR);
    await guest.frontEnd.setFeatures(guest.frontEnd.features);
    await collect(guest, [i]);
  }
  const { session } = await disk.server.status() as {
    session: { rings: { running: boolean }[] };
  };
  assert(session.rings[0].running);
});

Deno.test("a ring that a rebooted guest laid out anew starts from its own indices", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  const { frontEnd } = guest;
  for (let boot = 0; boot < 4; boot++) {
    for (let i = 0; i < 7; i++) {
      assertEquals((await guest.request(T_IN, i, SECTOR)).status, 0);
    }
    await frontEnd.stop();
    // In other memory, from other indices, with the old ring left as it was.
    const { size, eventIdx } = guest.drivers[0];
    const start = [0, 1, 65535][boot % 3];
    guest.drivers[0] = new FakeDriver(guest.memory, { size, eventIdx, start });
    await frontEnd.start(
      [guest.region],
      new Map([[0, guest.drivers[0]]]),
      { positions: { 0: start } },
    );
    await guest.request(T_IN, 1, SECTOR);
    assertEquals(guest.drivers[0].usedIndex, (start + 1) & 0xffff);
  }
});

for (const eventIdx of [true, false]) {
  const how = eventIdx ? "EVENT_IDX" : "flags";
  Deno.test(`batches that are kicked only where the device asks for it (${how})`, async () => {
    await using disk = await ServedDisk.start();
    using guest = await Guest.connect(disk.socket, {
      features: eventIdx ? ~0n : ~EVENT_IDX,
    });
    const start = 65_000;
    guest.drivers[0] = new FakeDriver(guest.memory, {
      size: 128,
      eventIdx,
      start,
    });
    const [driver] = guest.drivers;
    await guest.frontEnd.start(
      [guest.region],
      new Map([[0, driver]]),
      { positions: { 0: start } },
    );
    let kicks = 0;
    for (let batch = 0; batch < 60; batch++) {
      const sectors = Array.from({ length: 1 + batch % 30 }, (_, i) => i);
      for (const sector of sectors) submitSilently(guest, sector);
      if (driver.kickNeeded()) {
        kicks++;
        guest.frontEnd.kick(0);
      }
      // One batch whose kick was not asked for would wait here for ever.
      await collect(guest, sectors);
    }
    assert(kicks > 0);
    assertEquals(driver.inFlight, 0);
    assert(driver.usedIndex < start, "the indices did not wrap");
  });
}

Deno.test("limits that belong to a feature are never zero", async () => {
  for (const options of [{}, { queues: 4, blockSize: 4096 }]) {
    await using disk = await ServedDisk.start(options);
    using guest = await Guest.run(disk.socket, { size: 128 });
    const config = decodeConfig(await guest.frontEnd.getConfig(0, 96));
    const { features } = guest.frontEnd;
    const has = (bit: number) => (features >> BigInt(bit) & 1n) === 1n;
    const limits = {
      13: [
        config.maxDiscardSectors,
        config.maxDiscardSeg,
        config.discardSectorAlignment,
      ],
      14: [config.maxWriteZeroesSectors, config.maxWriteZeroesSeg],
      2: [config.segMax],
      6: [config.blkSize],
      12: [config.numQueues],
    };
    let offered = 0;
    for (const [bit, values] of Object.entries(limits)) {
      if (!has(Number(bit))) continue;
      offered++;
      assert(values.every((value) => value > 0), `feature ${bit}: ${values}`);
    }
    assert(offered >= 4);
  }
});

Deno.test("as many requests as the ring has entries are in flight at once", async () => {
  await using disk = await ServedDisk.start();
  for (const size of [2, 16, 1024]) {
    using guest = await Guest.run(disk.socket, { size });
    const data = (i: number) => new Uint8Array(SECTOR).fill(i + 1);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < size; i++) {
        assert(guest.submit(T_OUT, i, data(i + round)) >= 0);
      }
      const done = await guest.complete(size);
      assertEquals(
        done.map(({ data: [status] }) => status),
        Array(size).fill(0),
      );
    }
    assertEquals((await guest.request(T_FLUSH, 0)).status, 0);
    const last = await guest.request(T_IN, size - 1, SECTOR);
    assertEquals(last.data, data(size - 1 + 2));
  }
});
