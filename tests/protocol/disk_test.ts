import { assertEquals } from "@std/assert";
import { Guest, SECTOR, ServedDisk, T_FLUSH, T_IN, T_OUT } from "./disk.ts";

Deno.test("a guest reads, writes and flushes a disk", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  const read = await guest.request(T_IN, 5, 2 * SECTOR);
  assertEquals([read.status, read.length], [0, 2 * SECTOR + 1]);
  const words = new DataView(read.data.buffer, read.data.byteOffset);
  assertEquals([words.getUint32(0, true), words.getUint32(512, true)], [5, 6]);

  const data = crypto.getRandomValues(new Uint8Array(8 * SECTOR));
  assertEquals((await guest.request(T_OUT, 100, data)).status, 0);
  assertEquals((await guest.request(T_FLUSH, 0)).status, 0);
  const image = Deno.readFileSync(disk.image);
  assertEquals(image.subarray(100 * SECTOR, 108 * SECTOR), data);
  assertEquals((await guest.request(T_IN, 100, data.length)).data, data);
});
