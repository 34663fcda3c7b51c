/**
 * Drivers of a balloon that mean harm, or know no better. After each of them the
 * ring goes on, memory that was not named is as it was, and what was wrong is
 * counted.
 */

import { assert, assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { libc } from "../../sys/libc.ts";
import { waitUntil, withDeadline } from "../support/deadline.ts";
import type { FakeBuffer } from "../../virtqueue/testing/driver.ts";
import {
  BalloonGuest,
  DEFLATE,
  FIRST_PAGE,
  INFLATE,
  PAGE,
  pages,
  pfns,
  REPORTING,
  ServedBalloon,
  STATS,
} from "./balloon.ts";

const MIB = 2 ** 20;
/** Page numbers of 16 MiB of memory are below this. */
const END = FIRST_PAGE + 4096;

/** Runs a driver, then asserts that the balloon is as good as new. */
async function attack(
  act: (guest: BalloonGuest, balloon: ServedBalloon) => Promise<void>,
): Promise<void> {
  await using balloon = await ServedBalloon.start({ statsInterval: 0 });
  using guest = await BalloonGuest.run(balloon.socket);
  await act(guest, balloon);
  guest.data.bytes.fill(0xaa);
  const full = guest.allocated;
  await guest.inflate(pages(FIRST_PAGE, 256));
  await guest.deflate(pages(FIRST_PAGE, 256));
  await guest.report([FIRST_PAGE + 512, 256]);
  assertEquals(guest.allocated, full - 2 * MIB);
  const { reclaimed, requests } = await balloon.status();
  assertEquals([reclaimed, requests.errors], [0, {}]);
  const rings = (await balloon.server.status()).rings as {
    broken: string | null;
    badChains: number;
  }[];
  assertEquals(rings.map(({ broken }) => broken), [null, null, null, null]);
}

/** Whether all memory is as it was. */
function untouched(guest: BalloonGuest): boolean {
  return guest.allocated === 16 * MIB &&
    guest.data.bytes.every((byte) => byte === 0xaa);
}

Deno.test("page numbers beyond memory touch nothing", () =>
  attack(async (guest, balloon) => {
    const wrong = [
      0,
      1,
      FIRST_PAGE - 1,
      END,
      END + 1,
      2 ** 20 - 1,
      2 ** 31 - 1,
      2 ** 31,
      2 ** 31 + FIRST_PAGE,
      2 ** 32 - 1,
    ];
    for (const queue of [INFLATE, DEFLATE]) {
      await guest.request(queue, { readable: pfns(wrong) });
      for (const page of wrong) {
        await guest.request(queue, { readable: pfns([page]) });
      }
    }
    assert(untouched(guest));
    const { requests, reclaimed } = await balloon.status();
    assertEquals([requests.badPages, reclaimed], [4 * wrong.length, 0]);
  }));

Deno.test("2^32 - 1, a whole batch of it and beside good ones", () =>
  attack(async (guest) => {
    const none = 2 ** 32 - 1;
    await guest.inflate(new Array(256).fill(none));
    assert(untouched(guest));
    await guest.inflate([none, FIRST_PAGE + 9, none, FIRST_PAGE + 8, none]);
    assertEquals(guest.allocated, 16 * MIB - 2 * PAGE);
    assertEquals(
      [7, 8, 9, 10].map((page) => guest.data.bytes[page * PAGE]),
      [0xaa, 0, 0, 0xaa],
    );
    await guest.deflate([none, FIRST_PAGE + 8, FIRST_PAGE + 9]);
  }));

Deno.test("pages that are named again and again are pages once", () =>
  attack(async (guest, balloon) => {
    const page = FIRST_PAGE + 77;
    for (let i = 0; i < 20; i++) {
      await guest.inflate(new Array(256).fill(page));
    }
    assertEquals(guest.allocated, 16 * MIB - PAGE);
    assertEquals((await balloon.status()).reclaimed, PAGE);
    for (let i = 0; i < 5; i++) await guest.deflate(new Array(256).fill(page));
    assertEquals((await balloon.status()).reclaimed, 0);
    // What is deflated and was never inflated is no page less.
    await guest.deflate(pages(FIRST_PAGE, 1000));
    assertEquals((await balloon.status()).reclaimed, 0);
  }));

Deno.test("buffers of odd sizes, of the wrong kind, and of none", () =>
  attack(async (guest, balloon) => {
    const list = pfns([FIRST_PAGE, FIRST_PAGE + 1]);
    for (let size = 1; size < 8; size++) {
      const cut = { readable: list.slice(0, size) };
      await guest.request(INFLATE, cut);
      await guest.request(DEFLATE, cut);
      // One byte a descriptor.
      const single = Array.from(
        { length: size },
        (_, i): FakeBuffer => ({ readable: list.slice(i, i + 1) }),
      );
      await guest.request(INFLATE, ...single);
      await guest.request(DEFLATE, ...single);
    }
    for (const queue of [INFLATE, DEFLATE]) {
      await guest.request(queue, { writable: 1024 });
      await guest.request(queue, { readable: new Uint8Array(0) }, {
        writable: 1,
      });
    }
    await guest.request(REPORTING, { readable: list });
    await guest.request(REPORTING, {
      address: FIRST_PAGE * PAGE + 3,
      length: PAGE - 3,
      write: true,
    });
    guest.data.bytes.fill(0xaa, 0, PAGE);
    assert(untouched(guest));
    const { requests } = await balloon.status();
    assertEquals(requests.refused, { length: 6 + 6 + 6 + 6 + 4 });
  }));

Deno.test("lists of more descriptors than any driver makes", () =>
  attack(async (guest, balloon) => {
    const one = { readable: pfns([FIRST_PAGE]) };
    await guest.request(INFLATE, ...new Array(500).fill(one));
    assert(untouched(guest));
    assertEquals((await balloon.status()).requests.refused, { segments: 1 });
  }));

Deno.test("a list of a million pages keeps no other ring waiting", () =>
  attack(async (guest, balloon) => {
    // All memory as a list of page numbers: what it holds is no matter.
    const { guestAddress, size } = guest.data;
    const list = { address: guestAddress, length: size, write: false };
    const buffers = new Array(8).fill(list);
    guest.submit(INFLATE, ...buffers);
    for (let i = 0; i < 20; i++) await guest.deflate([FIRST_PAGE]);
    const { requests } = await balloon.status();
    assert(
      requests.inflatedPages < 8 * size / 4,
      "the list was done before twenty others",
    );
    // And a ring that is stopped meanwhile stops.
    const stopped = guest.frontEnd.getVringBase(INFLATE);
    assertEquals(await withDeadline(stopped, 5000, "the ring to stop"), 0);
    guest.driver(INFLATE).reset();
    await guest.frontEnd.setupRing(INFLATE, guest.driver(INFLATE));
  }));

Deno.test("reports of rings, of everything, and of a page's parts", () =>
  attack(async (guest, balloon) => {
    const { guestAddress, size } = guest.data;
    const all = { address: guestAddress, length: size, write: true };
    // The same memory, many times in one report.
    await guest.request(REPORTING, ...new Array(100).fill(all));
    assertEquals(guest.allocated, 0);
    guest.data.bytes.fill(0xaa);
    const odd = Array.from({ length: 100 }, (_, i): FakeBuffer => ({
      address: guestAddress + i * 100 + 1,
      length: 100,
      write: true,
    }));
    await guest.request(REPORTING, ...odd);
    assert(untouched(guest));
    assertEquals((await balloon.status()).requests.refused, {});
  }));

Deno.test("a million tiny batches", async () => {
  await attack(async (guest, balloon) => {
    const driver = guest.driver(INFLATE);
    const memory = driver.memory;
    // One buffer for all: the numbers in it change while it is read.
    const address = memory.allocate(4, 4);
    const buffer: FakeBuffer = { address, length: 4, write: false };
    const total = 1_000_000;
    let sent = 0, done = 0;
    while (done < total) {
      for (let i = 0; i < 128 && sent < total; i++) {
        // Never memory: what is measured is the ring, not the host.
        memory.setUint32(address, sent % 2 ? END + sent : sent % 256);
        if (driver.submit([buffer]) < 0) break;
        sent++;
      }
      if (driver.kickNeeded()) guest.frontEnd.kick(INFLATE);
      const finished = driver.reap().length;
      done += finished;
      if (finished === 0 && !driver.enableInterrupt()) {
        await guest.frontEnd.waitCall(INFLATE);
      }
    }
    assert(untouched(guest));
    const { requests } = await balloon.status();
    assertEquals([requests.completed, requests.badPages], [total, total]);
  });
});

Deno.test("a guest that puts its rings into the balloon harms itself alone", async () => {
  await using balloon = await ServedBalloon.start({ statsInterval: 0 });
  {
    using guest = await BalloonGuest.run(balloon.socket);
    const { availableRing } = guest.driver(INFLATE);
    const list = pages(Math.floor(availableRing / PAGE) - 1, 200);
    guest.submit(INFLATE, { readable: pfns(list) });
    await waitUntil(
      async () => (await balloon.status()).requests.inflatedPages >= 200,
      { what: "the rings to go" },
    );
    for (const queue of guest.drivers.keys()) guest.frontEnd.kick(queue);
    await guest.frontEnd.stop();
  }
  using next = await BalloonGuest.run(balloon.socket);
  await next.inflate([FIRST_PAGE]);
  assertEquals(next.allocated, 16 * MIB - PAGE);
});

Deno.test("statistics of bad lengths, and more buffers than one", () =>
  attack(async (guest, balloon) => {
    for (const size of [1, 9, 11, 19, 1000, 4096]) {
      guest.submit(STATS, { readable: new Uint8Array(size).fill(0xff) });
    }
    guest.submit(STATS, { writable: 10 });
    guest.submit(STATS, { readable: new Uint8Array(0) }, { writable: 10 });
    // All but the last come back.
    await guest.complete(STATS, 7);
    const { requests, stats } = await balloon.status();
    assertEquals([requests.statistics, stats], [8, {}]);
    assertEquals(requests.refused, { length: 6 });
    guest.submit(STATS, { readable: new Uint8Array(11).fill(0xff) });
    await guest.complete(STATS);
    const { stats: told } = await balloon.status();
    assertEquals(told, { tag65535: 2 ** 64 });
  }));

Deno.test("queues that no feature goes with are answered without effect", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket, {
    features: 1n << 32n | 1n << 28n | 1n << 30n,
    queues: [0, 1, 2, 3, 4],
  });
  const address = FIRST_PAGE * PAGE;
  for (const queue of [2, 3, 4]) {
    await guest.request(queue, { address, length: MIB, write: true });
    await guest.request(queue, { readable: new Uint8Array(20) });
  }
  assert(untouched(guest));
  assertEquals((await balloon.status()).requests.refused, { queue: 6 });
  await guest.inflate([FIRST_PAGE]);
  assertEquals(guest.allocated, 16 * MIB - PAGE);
});

Deno.test("a front-end whose call blocks leaves while its connection is lent: the next one is served", async () => {
  await using balloon = await ServedBalloon.start();
  using call = EventFd.create({ nonblocking: false });
  {
    using guest = await BalloonGuest.run(balloon.socket, { queues: [INFLATE] });
    await guest.frontEnd.setVringCall(INFLATE, call.fd);
    for (let i = 0; i < 4; i++) await guest.config();
    // So that reading never blocks: then all but the last count.
    call.signal();
    call.drain();
    libc().eventfd_write(call.fd, 2n ** 64n - 2n);
    const driver = guest.driver(INFLATE);
    driver.enableInterrupt();
    guest.submit(INFLATE, { readable: pfns(pages(FIRST_PAGE, 1)) });
    await waitUntil(() => driver.usedPending, { what: "the answer" });
  }
  const next = BalloonGuest.run(balloon.socket, { queues: [INFLATE] });
  using guest = await withDeadline(next, 10_000, "the next front-end");
  await guest.config();
});
