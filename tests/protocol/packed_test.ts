/**
 * Packed rings of a disk that is really served.
 */

import { assert, assertEquals } from "@std/assert";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { FakeMemory } from "../../virtqueue/testing/driver.ts";
import { FakePackedDriver } from "../../virtqueue/testing/packed_driver.ts";
import { waitUntil } from "../support/deadline.ts";
import { GUEST_BASE, header, SECTOR, ServedDisk, T_IN, T_OUT } from "./disk.ts";

const EVENT_IDX = 1n << 29n;

interface PackedGuestOptions {
  readonly size: number;
  readonly rings?: number;
  readonly eventIdx?: boolean;
  readonly inOrder?: boolean;
  /** Where rings begin: index and wrap counter (default: as after a reset). */
  readonly start?: number;
  /** Requests are indirect tables, or three descriptors. */
  readonly indirect?: boolean;
}

/** A front-end with packed rings. */
class PackedGuest implements Disposable {
  readonly frontEnd: FrontEnd;
  readonly region = SharedRegion.create(GUEST_BASE, 4 << 20);
  readonly memory = new FakeMemory([this.region]);
  readonly drivers: FakePackedDriver[] = [];
  readonly #indirect: boolean;

  private constructor(socket: string, indirect: boolean) {
    this.frontEnd = FrontEnd.connect(socket);
    this.#indirect = indirect;
  }

  static async connect(
    socket: string,
    options: PackedGuestOptions,
  ): Promise<PackedGuest> {
    const { size, rings = 1, eventIdx = true, inOrder } = options;
    const { indirect = true, start } = options;
    const guest = new PackedGuest(socket, indirect);
    const features = eventIdx ? ~0n : ~EVENT_IDX;
    await guest.frontEnd.handshake({ features, packed: true, inOrder });
    const positions: Record<number, number> = {};
    for (let i = 0; i < rings; i++) {
      guest.drivers.push(
        new FakePackedDriver(guest.memory, { size, eventIdx, start }),
      );
      positions[i] = guest.drivers[i].start;
    }
    await guest.start(positions);
    return guest;
  }

  /** Starts every ring. */
  async start(positions?: Record<number, number>): Promise<void> {
    const layouts = new Map(this.drivers.entries());
    await this.frontEnd.start([this.region], layouts, { positions });
  }

  /** Makes requests for the sectors available, as many as there is room for. */
  submit(type: number, sectors: readonly number[], ring = 0): number[] {
    const driver = this.drivers[ring];
    const tokens = sectors.map((sector) =>
      driver.submit([
        { readable: header(type, sector) },
        type === T_IN
          ? { writable: SECTOR }
          : { readable: new Uint8Array(SECTOR).fill(sector) },
        { writable: 1 },
      ], { indirect: this.#indirect })
    ).filter((token) => token >= 0);
    if (driver.kickNeeded()) this.frontEnd.kick(ring);
    return tokens;
  }

  /** Waits for so many answers; tokens and first bytes. */
  async complete(count: number, ring = 0): Promise<[number, number][]> {
    const driver = this.drivers[ring];
    const done: [number, number][] = [];
    while (done.length < count) {
      for (const { token, data } of driver.reap()) {
        assertEquals(data.at(-1), 0, "status");
        done.push([token, data[0]]);
      }
      if (done.length >= count || driver.enableInterrupt()) continue;
      await this.frontEnd.waitCall(ring);
    }
    return done;
  }

  /** Waits until the error descriptor of a ring is signalled. */
  async error(ring: number): Promise<void> {
    const { error } = this.frontEnd.events(ring);
    await waitUntil(() => error.drain() > 0, { what: "an error" });
  }

  [Symbol.dispose](): void {
    this.frontEnd.close();
    this.region[Symbol.dispose]();
  }
}

for (const size of [1, 3, 7, 256, 32_767, 32_768]) {
  Deno.test(`packed rings of ${size}: requests beyond the end of a lap`, async () => {
    await using disk = await ServedDisk.start();
    for (const eventIdx of [false, true]) {
      for (const inOrder of [false, true]) {
        const indirect = size < 3 || eventIdx;
        // Large ones are gone through around the end of a lap, of either kind.
        const start = Math.max(0, size - 150) | (inOrder ? 0 : 0x8000);
        using guest = await PackedGuest.connect(disk.socket, {
          ...{ size, eventIdx, inOrder, indirect, start },
        });
        const [driver] = guest.drivers;
        let laps = 0;
        const turns = size > 100 ? 3 : 50;
        for (let turn = 0; turn < turns; turn++) {
          const before = driver.next;
          const sectors = Array.from({ length: 100 }, (_, i) => turn + i);
          const tokens = guest.submit(T_IN, sectors);
          const done = await guest.complete(tokens.length);
          const seen = done.map(([token]) => token);
          if (inOrder) assertEquals(seen, tokens);
          for (const [token, byte] of done) {
            assertEquals(byte, sectors[tokens.indexOf(token)] & 0xff);
          }
          if (before < size !== driver.next < size) laps++;
        }
        assertEquals(driver.freeDescriptors, size);
        assert(laps > 0, "the ring was not gone through to its end");
      }
    }
  });
}

Deno.test("packed rings stop and go on where they were, writes and all", async () => {
  await using disk = await ServedDisk.start({ queues: 2 });
  using guest = await PackedGuest.connect(disk.socket, { size: 5, rings: 2 });
  for (let turn = 0; turn < 12; turn++) {
    for (const ring of [0, 1]) {
      const sectors = [0, 1, 2].map((i) => 10 * turn + 5 * ring + i);
      const tokens = guest.submit(T_OUT, sectors, ring);
      assertEquals((await guest.complete(tokens.length, ring)).length, 3);
    }
    const positions: Record<number, number> = {};
    for (const ring of [0, 1]) {
      const { next } = guest.drivers[ring];
      const half = next < 5 ? next | 0x8000 : next - 5;
      positions[ring] = await guest.frontEnd.getVringBase(ring);
      assertEquals(positions[ring], (half | half << 16) >>> 0);
    }
    await guest.start(positions);
  }
  const image = Deno.readFileSync(disk.image);
  for (const sector of [0, 7, 112, 117]) {
    assertEquals(image[sector * SECTOR + 4], sector);
  }
});

Deno.test("a packed ring that is corrupt rests and says so, others go on", async () => {
  await using disk = await ServedDisk.start({ queues: 2 });
  using guest = await PackedGuest.connect(disk.socket, { size: 7, rings: 2 });
  const [bad] = guest.drivers;
  const chain = { address: GUEST_BASE, length: 16, flags: 1 };
  bad.offer(...Array.from({ length: 7 }, () => chain));
  guest.frontEnd.kick(0);
  await guest.error(0);
  const rings = async () =>
    (await disk.server.status() as {
      rings: { broken: string | null; badChains: number }[];
    }).rings;
  assertEquals((await rings()).map(({ broken }) => broken), [
    "the chain at descriptor 0 has more descriptors than the driver",
    null,
  ]);
  // A bad chain on the other one: answered, counted and told.
  guest.drivers[1].offer({ address: 2 ** 50, length: 1, id: 4 });
  guest.frontEnd.kick(1);
  await guest.error(1);
  let answer: { id: number; length: number } | null = null;
  await waitUntil(() => (answer = guest.drivers[1].reapOffered(1)) !== null, {
    what: "an answer",
  });
  assertEquals(answer, { id: 4, length: 0 });
  assertEquals((await rings())[1].badChains, 1);
  const [token] = guest.submit(T_IN, [3], 1);
  assertEquals(await guest.complete(1, 1), [[token, 3]]);
  // It lives again when the driver begins anew.
  await guest.frontEnd.stop();
  for (const driver of guest.drivers) driver.reset();
  await guest.start();
  guest.submit(T_IN, [9]);
  assertEquals((await guest.complete(1)).map(([, byte]) => byte), [9]);
  assert((await rings()).every(({ broken }) => broken === null));
});

Deno.test("what is not offered cannot be had: packed=off, in-order=off", async () => {
  const bits = async (options: { packed: boolean; inOrder: boolean }) => {
    await using disk = await ServedDisk.start({}, { offer: options });
    using frontEnd = FrontEnd.connect(disk.socket);
    const features = await frontEnd.getFeatures();
    return [34n, 35n, 36n].map((bit) => Number(features >> bit & 1n));
  };
  assertEquals(await bits({ packed: true, inOrder: true }), [1, 1, 1]);
  assertEquals(await bits({ packed: false, inOrder: true }), [0, 1, 1]);
  assertEquals(await bits({ packed: true, inOrder: false }), [1, 0, 1]);
});
