import { assert, assertEquals } from "@std/assert";
import { Guest, SECTOR, ServedDisk, T_IN, T_OUT } from "./disk.ts";

const RINGS = 4;

Deno.test("several Workers share the queues of a disk", async () => {
  await using disk = await ServedDisk.start({ queues: RINGS }, { workers: 2 });
  using guest = await Guest.run(disk.socket, { rings: RINGS });
  for (let i = 0; i < 100; i++) {
    const ring = i % RINGS;
    const data = new Uint8Array(SECTOR).fill(i + 1);
    const written = await guest.request(T_OUT, i, data, ring);
    assertEquals(written.status, 0);
    // Another ring, and so another Worker, reads it.
    const read = await guest.request(T_IN, i, SECTOR, (ring + 1) % RINGS);
    assertEquals(read.data, data);
  }
  const { rings, device } = await disk.server.status() as {
    rings: { index: number; completed: number }[];
    device: { workers: { requests: { completed: number } }[] };
  };
  assertEquals(rings.map(({ index }) => index), [0, 1, 2, 3]);
  for (const { completed } of rings) assertEquals(completed, 50);
  assertEquals(device.workers.length, 2);
  for (const { requests } of device.workers) assert(requests.completed > 0);
});

Deno.test("several Workers: memory goes and comes, a resize is told once", async () => {
  await using disk = await ServedDisk.start({ queues: 2 }, { workers: 2 });
  using guest = await Guest.run(disk.socket, { rings: 2 });
  for (let i = 0; i < 5; i++) {
    await guest.frontEnd.remMemReg(guest.region);
    await guest.frontEnd.addMemReg(guest.region);
    for (const ring of [0, 1]) {
      const { status } = await guest.request(T_IN, i, SECTOR, ring);
      assertEquals(status, 0);
    }
  }
  Deno.truncateSync(disk.image, 8 << 20);
  await disk.server.command("resize");
  await guest.frontEnd.configChange();
  const last = (8 << 20) / SECTOR - 1;
  for (const ring of [0, 1]) {
    const { status } = await guest.request(T_IN, last, SECTOR, ring);
    assertEquals(status, 0);
  }
});
