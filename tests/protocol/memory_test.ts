import { assert, assertEquals } from "@std/assert";
import { SharedRegion } from "../../vhost/testing/front_end.ts";
import { FakeDriver, FakeMemory } from "../../virtqueue/testing/driver.ts";
import { Guest, header, SECTOR, ServedDisk, T_IN } from "./disk.ts";

const DEPTH = 32;
const HOTPLUGGED = 0x4000_0000;
const PAGES = 16 * 4096;

/** Verified reads at queue depth 32 on ring 0, until it is told to stop. */
class Load {
  completed = 0;
  wrong = 0;
  #running = true;
  readonly #done: Promise<void>;
  readonly #expected = new Map<number, number>();
  #sector = 0;

  constructor(readonly guest: Guest) {
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    const { guest } = this, [driver] = guest.drivers;
    while (this.#running || driver.inFlight > 0) {
      while (this.#running && driver.inFlight < DEPTH) {
        this.#expected.set(
          guest.submit(T_IN, this.#sector, SECTOR),
          this.#sector,
        );
        this.#sector = (this.#sector + 1) % 8192;
      }
      for (const { token, data } of driver.reap()) {
        const stamp = new DataView(data.buffer).getUint32(0, true);
        if (data[SECTOR] !== 0 || stamp !== this.#expected.get(token)) {
          this.wrong++;
        }
        this.completed++;
      }
      if (driver.inFlight > 0 && !driver.enableInterrupt()) {
        await guest.frontEnd.waitCall(0);
      }
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

Deno.test("memory regions come and go under load", async () => {
  await using disk = await ServedDisk.start({ queues: 2 });
  using guest = await Guest.connect(disk.socket, { rings: 1 });
  const { frontEnd } = guest;
  const { size, eventIdx } = guest.drivers[0];
  const second = new FakeDriver(guest.memory, { size, eventIdx, copy: false });
  guest.drivers.push(second);
  await guest.start();
  const load = new Load(guest);
  let waited = 0, raced = 0;
  try {
    for (let i = 0; i < 60; i++) {
      using added = SharedRegion.create(HOTPLUGGED + (i % 3) * PAGES, PAGES, {
        fileOffset: (i % 2) * 4096,
      });
      await frontEnd.addMemReg(added);
      const memory = new FakeMemory([added]);
      for (let j = 0; j < 4; j++) {
        second.submit([
          { readable: header(T_IN, i * 4 + j) },
          { address: memory.allocate(SECTOR), length: SECTOR, write: true },
          { writable: 1 },
        ], { indirect: true });
      }
      if (second.kickNeeded()) frontEnd.kick(1);
      const stamps = () =>
        [0, 1, 2, 3].map((j) =>
          new DataView(added.bytes.buffer).getUint32(j * SECTOR, true)
        );
      if (i % 2 === 0) {
        const done = await guest.complete(4, 1);
        assertEquals(done.map(({ length }) => length), Array(4).fill(513));
        assertEquals(stamps(), [0, 1, 2, 3].map((j) => i * 4 + j));
        waited += done.length;
      }
      await frontEnd.remMemReg(added, i % 4 === 0);
      if (i % 2 === 1) {
        // What the device had taken was finished before the answer; what it
        // had not taken finds no memory and is answered with length 0.
        const after = stamps();
        const done = await guest.complete(4, 1);
        for (const { length } of done) assert(length === 513 || length === 0);
        assertEquals(stamps(), after);
        raced += done.filter(({ length }) => length === 513).length;
      }
    }
  } finally {
    await load.stop();
  }
  assertEquals(load.wrong, 0);
  assert(load.completed > 1000, `only ${load.completed} verified reads`);
  assert(waited > 0 && raced >= 0);
});

Deno.test("the ring's own memory goes and comes back", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  const { frontEnd } = guest;
  for (let i = 0; i < 20; i++) {
    const { data } = await guest.request(T_IN, i, SECTOR);
    assertEquals(new DataView(data.buffer).getUint32(0, true), i);
    await frontEnd.remMemReg(guest.region);
    // Made available while the device has no memory: served afterwards.
    guest.submit(T_IN, 100 + i, SECTOR);
    await frontEnd.addMemReg(guest.region);
    const [{ data: later }] = await guest.complete(1);
    assertEquals(new DataView(later.buffer).getUint32(0, true), 100 + i);
  }
});

Deno.test("a new memory table replaces the old one under load", async () => {
  await using disk = await ServedDisk.start();
  using guest = await Guest.run(disk.socket);
  using extra = SharedRegion.create(HOTPLUGGED, PAGES);
  const load = new Load(guest);
  try {
    for (let i = 0; i < 50; i++) {
      await guest.frontEnd.setMemTable(
        i % 2 === 0 ? [guest.region, extra] : [guest.region],
      );
    }
  } finally {
    await load.stop();
  }
  assertEquals(load.wrong, 0);
  assert(load.completed > 100, `only ${load.completed} verified reads`);
});
