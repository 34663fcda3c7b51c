import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { SystemError } from "../../sys/errno.ts";
import { UnixListener, UnixSocket } from "../../sys/unix_socket.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { waitUntil } from "../support/deadline.ts";
import { resources } from "../support/leaks.ts";
import { Guest, header, SECTOR, ServedDisk, T_IN, T_OUT } from "./disk.ts";

/** Waits until the server has wound up every session. */
async function idle(disk: ServedDisk): Promise<void> {
  await waitUntil(
    async () => (await disk.server.status()).connected === false,
    { what: "the server to be without a front-end" },
  );
}

Deno.test("a front-end leaves while somebody waits for its call", async () => {
  await using disk = await ServedDisk.start();
  let waiting: Promise<unknown>;
  {
    using guest = await Guest.run(disk.socket);
    waiting = guest.frontEnd.waitCall(0);
    waiting.catch(() => {});
  }
  await assertRejects(() => waiting, Error, "closed");
});

Deno.test("front-ends come and go: nothing is left of 1,000 of them", async () => {
  await using disk = await ServedDisk.start();
  const cycle = async (step: number): Promise<void> => {
    // Leave at a different point each time: before a word, in the handshake,
    // with memory, with rings, with requests in flight.
    switch (step % 5) {
      case 0:
        return UnixSocket.connect(disk.socket).close();
      case 1: {
        using frontEnd = FrontEnd.connect(disk.socket);
        await frontEnd.getFeatures();
        return;
      }
      case 2: {
        using guest = await Guest.connect(disk.socket);
        await guest.frontEnd.addMemReg(guest.region);
        return;
      }
      case 3: {
        using guest = await Guest.run(disk.socket);
        assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
        return;
      }
      case 4: {
        using guest = await Guest.run(disk.socket);
        for (let i = 0; i < 16; i++) guest.submit(T_IN, i, SECTOR);
        return;
      }
    }
  };
  const run = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      await cycle(i);
      await idle(disk);
    }
  };
  await run(50);
  const before = resources();
  await run(1000);
  assertEquals(resources(), before);
  using guest = await Guest.run(disk.socket);
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
  assertEquals((await disk.server.status()).missedWakeUps, 0);
});

Deno.test("a look whether a socket is served counts as nothing", async () => {
  await using disk = await ServedDisk.start();
  const look = () =>
    assertThrows(
      () => UnixListener.listen(disk.socket),
      SystemError,
      "another server listens there already",
    );
  look();
  await idle(disk);
  assertEquals((await disk.server.status()).connections, 0);
  using _guest = await Guest.run(disk.socket);
  look();
  // Who comes after it is seen after it.
  using second = FrontEnd.connect(disk.socket);
  await second.closedByPeer();
  const { connections, refusedConnections } = await disk.server.status();
  assertEquals([connections, refusedConnections], [1, 1]);
});

Deno.test("a second front-end is refused, the first goes on", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  using second = FrontEnd.connect(disk.socket);
  await second.closedByPeer();
  assertEquals((await guest.request(T_IN, 7, SECTOR)).status, 0);
  assertEquals((await disk.server.status()).refusedConnections, 1);
});

Deno.test("a front-end that breaks the protocol is dropped, which is remembered", async () => {
  await using disk = await ServedDisk.start();
  for (let i = 1; i <= 3; i++) {
    using guest = await Guest.run(disk.socket);
    await guest.frontEnd.sendRaw(new Uint8Array(12).fill(0xff));
    await guest.frontEnd.closedByPeer();
    await idle(disk);
    const { droppedConnections, lastDrop } = await disk.server.status();
    assertEquals([droppedConnections, lastDrop], [
      i,
      "Cannot serve vhost-user message 4294967295: protocol version 3 is not 1",
    ]);
  }
  using guest = await Guest.run(disk.socket);
  assertEquals((await guest.request(T_IN, 7, SECTOR)).status, 0);
});

Deno.test("a front-end that reconnects at once is served", async () => {
  await using disk = await ServedDisk.start();
  for (let i = 0; i < 20; i++) {
    using guest = await Guest.run(disk.socket);
    for (let j = 0; j < 8; j++) guest.submit(T_IN, j, SECTOR);
    guest.frontEnd.close();
    // No pause: the session before may not be wound up yet.
    using next = await Guest.run(disk.socket);
    assertEquals((await next.request(T_IN, 3, SECTOR)).status, 0);
  }
});

Deno.test("stopping the server completes what was submitted", async () => {
  const disk = await ServedDisk.start();
  const guest = await Guest.run(disk.socket);
  try {
    const count = 100;
    for (let i = 0; i < count; i++) {
      const data = new Uint8Array(SECTOR).fill(i + 1);
      guest.drivers[0].submit([
        { readable: header(T_OUT, i) },
        { readable: data },
        { writable: 1 },
      ], { indirect: true });
    }
    guest.frontEnd.kick(0);
    await guest.complete(1);
    const image = disk.image;
    await disk.server.stop();
    const done = guest.drivers[0].reap();
    for (const { data } of done) assertEquals(data[0], 0);
    // What was completed is in the file, and nothing else is half there.
    const bytes = Deno.readFileSync(image);
    for (let i = 0; i < count; i++) {
      const sector = bytes.subarray(i * SECTOR, (i + 1) * SECTOR);
      assert(
        sector.every((byte) => byte === i + 1) ||
          new DataView(sector.buffer, sector.byteOffset).getUint32(0, true) ===
            i,
      );
    }
    assertEquals(await guest.frontEnd.receive(), null);
  } finally {
    guest[Symbol.dispose]();
    await disk[Symbol.asyncDispose]();
  }
});
