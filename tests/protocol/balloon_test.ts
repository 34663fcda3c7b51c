import { assert, assertEquals, assertRejects } from "@std/assert";
import { Epoll, EPOLLIN } from "../../sys/epoll.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import {
  FrontEndMessage,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "../../vhost/constants.ts";
import { LogMemory, setLogging } from "../../vhost/testing/log_memory.ts";
import { dirtyLogSize } from "../../virtqueue/dirty_log.ts";
import { encodeConfig, encodeMessage } from "../../vhost/message.ts";
import type { SessionStatus } from "../../vhost/session.ts";
import { waitUntil } from "../support/deadline.ts";
import { assertNoLeaks } from "../support/leaks.ts";
import { skipUnless } from "../support/skip.ts";
import {
  BalloonGuest,
  DATA_BASE,
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

/** A buffer with the amount of free memory. */
function freeMemory(bytes: number): Uint8Array<ArrayBuffer> {
  const entry = new Uint8Array(10);
  const view = new DataView(entry.buffer);
  view.setUint16(0, 4, true);
  view.setBigUint64(2, BigInt(bytes), true);
  return entry;
}

Deno.test("memory goes back to the host and comes again", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket, { fileOffset: PAGE });
  const { bytes } = guest.data, full = guest.allocated;
  for (let round = 0; round < 2; round++) {
    bytes.fill(0xaa);
    assertEquals(guest.allocated, full);
    await guest.inflate(pages(FIRST_PAGE, 3072));
    assertEquals(guest.allocated, full - 12 * MIB);
    assertEquals((await balloon.status()).reclaimed, 12 * MIB);
    await guest.deflate(pages(FIRST_PAGE, 3072));
    assertEquals((await balloon.status()).reclaimed, 0);
    assert(bytes.subarray(0, 12 * MIB).every((byte) => byte === 0));
    assert(bytes.subarray(12 * MIB).every((byte) => byte === 0xaa));
  }
  const { requests } = await balloon.status();
  assertEquals(requests.inflatedPages, 6144);
  assertEquals(requests.discards, 24, "a hole for each batch");
  assertEquals([requests.badPages, requests.refused], [0, {}]);
});

Deno.test("exactly the pages of the balloon are gone", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket);
  const chosen = new Set<number>();
  for (let page = 0; page < 4096; page++) {
    if ((page * 2654435761 >>> 7) % 3 === 0) chosen.add(page);
  }
  const list = [...chosen].reverse().map((page) => FIRST_PAGE + page);
  await guest.inflate(list);
  assertEquals(guest.allocated, (4096 - chosen.size) * PAGE);
  for (let page = 0; page < 4096; page++) {
    const at = page * PAGE;
    const first = guest.data.bytes[at], last = guest.data.bytes[at + PAGE - 1];
    const value = chosen.has(page) ? 0 : 0xaa;
    assertEquals([first, last], [value, value], `page ${page}`);
  }
});

Deno.test("reported pages go back, and are no balloon", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket);
  const full = guest.allocated;
  await guest.report([FIRST_PAGE, 1024], [FIRST_PAGE + 2048, 512]);
  assertEquals(guest.allocated, full - 6 * MIB);
  assertEquals((await balloon.status()).reclaimed, 0);
  guest.data.bytes.fill(0xaa);
  assertEquals(guest.allocated, full);
});

Deno.test("poisoned pages are kept, unless the poison is zero", async () => {
  await using balloon = await ServedBalloon.start();
  for (const [poison, given] of [[0xaaaaaaaa, 0], [0, 4 * MIB]]) {
    using guest = await BalloonGuest.run(balloon.socket);
    await guest.frontEnd.setConfig(12, pfns([poison]));
    const full = guest.allocated;
    await guest.report([FIRST_PAGE, 1024]);
    assertEquals(full - guest.allocated, given);
    assertEquals(guest.data.bytes[0], given === 0 ? 0xaa : 0);
  }
});

const HUGE = 2 * MIB;
/** Huge pages that the system has to spare, where they have 2 MiB. */
function freeHugePages(): number {
  const facts = Deno.readTextFileSync("/proc/meminfo");
  const of = (name: string): number =>
    Number(new RegExp(`^${name}: *(\\d+)`, "m").exec(facts)?.[1] ?? 0);
  return of("Hugepagesize") === HUGE / 1024
    ? of("HugePages_Free") - of("HugePages_Rsvd")
    : 0;
}

skipUnless(
  freeHugePages() >= 6,
  "no 6 huge pages of 2 MiB are free (/proc/sys/vm/nr_hugepages)",
).test(
  "huge pages go back whole, when all of one is in the balloon",
  async () => {
    await using balloon = await ServedBalloon.start();
    using guest = await BalloonGuest.run(balloon.socket, {
      memory: 4 * HUGE,
      hugetlb: true,
    });
    assertEquals(guest.allocated, 4 * HUGE);
    const second = FIRST_PAGE + 512;
    await guest.inflate(pages(FIRST_PAGE + 100, 412 + 511));
    assertEquals(guest.allocated, 4 * HUGE);
    await guest.inflate([second + 511]);
    assertEquals(guest.allocated, 3 * HUGE);
    assertEquals((await balloon.status()).reclaimed, HUGE);
    assert(guest.data.bytes.subarray(0, HUGE).every((byte) => byte === 0xaa));
    await guest.deflate(pages(second, 512));
    guest.data.bytes.fill(0xaa, HUGE, 2 * HUGE);
    assertEquals(guest.allocated, 4 * HUGE);
    await guest.report([second + 1, 1024 + 511]);
    assertEquals(guest.allocated, 2 * HUGE);
    assertEquals(guest.data.bytes[2 * HUGE - 1], 0xaa);
  },
);

Deno.test("a target that is set while no ring runs is told when one does", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket);
  await guest.frontEnd.stop();
  for (const driver of guest.drivers.values()) driver.reset();
  await balloon.server.command("balloon-set", { size: "50%" });
  // A message before a ring runs ends some front-ends.
  let told = false;
  const change = guest.frontEnd.configChange().then(() => told = true);
  for (let i = 0; i < 3; i++) await guest.frontEnd.getFeatures();
  assertEquals(told, false);
  await guest.start();
  await change;
  assertEquals(await guest.config(), [3072, 0]);
});

Deno.test("a target is told to the driver, and its progress to people", async () => {
  await using balloon = await ServedBalloon.start({ size: 4 * MIB });
  const error = await assertRejects(() =>
    balloon.server.command("balloon-set", { size: "1G" })
  ) as Error;
  assert(error.message.includes("no guest is connected"), error.message);
  using guest = await BalloonGuest.run(balloon.socket);
  assertEquals(await guest.config(), [1024, 0]);
  // The rings' memory counts, too: 24 MiB in all.
  await balloon.server.command("balloon-set", { size: "-25%" });
  await guest.frontEnd.configChange();
  assertEquals(await guest.config(), [2560, 0]);
  await guest.inflate(pages(FIRST_PAGE, 640));
  await guest.writeActual(640);
  const { target, actual, progress, reclaimed } = await balloon.status();
  assertEquals(
    { target, actual, progress, reclaimed },
    {
      target: 10 * MIB,
      actual: 2.5 * MIB,
      progress: 0.25,
      reclaimed: 2.5 * MIB,
    },
  );
  await balloon.server.command("balloon-set", { size: "100%" });
  await guest.frontEnd.configChange();
  assertEquals(await guest.config(), [0, 640]);
});

Deno.test("what a driver may not write stays, whoever sends the whole space", async () => {
  await using balloon = await ServedBalloon.start({ size: 4 * MIB });
  using guest = await BalloonGuest.run(balloon.socket);
  await guest.frontEnd.setConfig(0, pfns([77, 5, 88, 6]));
  const config = (await guest.frontEnd.getConfig(0, 16)).slice();
  assertEquals([...new Uint32Array(config.buffer)], [1024, 5, 0, 6]);
  for (const size of [8, 12, 16]) {
    assertEquals((await guest.frontEnd.getConfig(0, size)).length, size);
    await guest.frontEnd.setConfig(0, pfns([77, size, 88, 6]).slice(0, size));
    assertEquals(await guest.config(), [1024, size]);
  }
});

Deno.test("while rings run, the configuration is answered beside them", async () => {
  await using balloon = await ServedBalloon.start();
  const socket = UnixSocket.connect(balloon.socket);
  using guest = await BalloonGuest.run(socket);
  await guest.writeActual(1);
  using epoll = new Epoll();
  epoll.add(socket.fd, EPOLLIN, 0);
  const write = (actual: number): void => {
    const config = new Uint8Array(16);
    new DataView(config.buffer).setUint32(4, actual, true);
    const payload = encodeConfig(0, 0, config);
    const flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
    const { SET_CONFIG } = FrontEndMessage;
    socket.trySend(encodeMessage(SET_CONFIG, flags, payload));
    // This thread, which has the session, stands still until it is answered.
    assertEquals(epoll.wait(10_000), 1);
    assertEquals(socket.tryReceive(new Uint8Array(64), []), 20);
  };
  for (let round = 0; round < 4; round++) {
    write(256 * (round + 1));
    await guest.inflate(pages(FIRST_PAGE + 256 * round, 256));
    // A message of another kind comes in between, and then the same again.
    if (round === 1) {
      await guest.frontEnd.getFeatures();
      await guest.writeActual(512);
    }
    assertEquals((await balloon.status()).actual, 256 * (round + 1) * PAGE);
  }
  const { session } = await balloon.server.status();
  const { messages } = session as SessionStatus;
  assertEquals(messages.VHOST_USER_SET_CONFIG, 6);
  assertEquals(messages.VHOST_USER_GET_CONFIG, 2);
});

Deno.test("statistics are told when somebody asks", async () => {
  await using balloon = await ServedBalloon.start({ statsInterval: 0 });
  using guest = await BalloonGuest.run(balloon.socket);
  guest.submit(STATS, { readable: freeMemory(1000) });
  await waitUntil(async () => (await balloon.status()).stats.freeMemory > 0, {
    what: "the first statistics",
  });
  assertEquals(guest.driver(STATS).usedPending, false);
  const answer = balloon.server.command("stats");
  await guest.complete(STATS);
  guest.submit(STATS, { readable: freeMemory(2000) });
  const told = await answer as { stats: unknown; statsAge: number };
  assertEquals(told.stats, { freeMemory: 2000 });
});

Deno.test("statistics are asked for when the interval is over", async () => {
  await using balloon = await ServedBalloon.start({ statsInterval: 1 });
  using guest = await BalloonGuest.run(balloon.socket);
  for (let i = 1; i <= 2; i++) {
    guest.submit(STATS, { readable: freeMemory(i) });
    await guest.complete(STATS);
  }
  assertEquals((await balloon.status()).requests.statistics, 2);
});

for (
  const [name, features, queues, expected] of [
    ["the specification's numbers", -1n, [0, 1, 2, 4], 4],
    ["gaps closed by the front-end", -1n, [0, 1, 2, 3], 3],
    ["gaps closed, no statistics", ~2n, [0, 1, 2], 2],
  ] as const
) {
  Deno.test(`reports are found by the rings that run: ${name}`, async () => {
    await using balloon = await ServedBalloon.start();
    using guest = await BalloonGuest.run(balloon.socket, { features, queues });
    const before = guest.allocated;
    const address = FIRST_PAGE * PAGE;
    await guest.request(expected, { address, length: MIB, write: true });
    assertEquals(guest.allocated, before - MIB);
  });
}

Deno.test("every answer is notified, though the driver wants none", async () => {
  await using balloon = await ServedBalloon.start();
  for (const eventIdx of [true, false]) {
    const features = eventIdx ? -1n : ~(1n << 29n);
    using guest = await BalloonGuest.run(balloon.socket, { features });
    // A ring that starts may be notified once, for nothing.
    for (const queue of [INFLATE, DEFLATE]) {
      const driver = guest.driver(queue);
      for (let i = 0; i < 3; i++) {
        driver.disableInterrupt();
        guest.frontEnd.events(queue).call.drain();
        guest.submit(queue, { readable: pfns([FIRST_PAGE + i]) });
        await guest.frontEnd.waitCall(queue);
        assertEquals(driver.reap().length, 1);
      }
    }
  }
});

Deno.test("a guest that reboots while inflated starts with an empty balloon", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket);
  guest.submit(STATS, { readable: freeMemory(1000) });
  await balloon.server.command("balloon-set", { size: "50%" });
  await guest.inflate(pages(FIRST_PAGE, 2048));
  await guest.writeActual(2048);
  await guest.frontEnd.stop();
  for (const driver of guest.drivers.values()) driver.reset();
  const { actual, reclaimed, target, stats } = await balloon.status();
  assertEquals(
    { actual, reclaimed, target, stats },
    { actual: 0, reclaimed: 0, target: 12 * MIB, stats: {} },
  );
  await guest.start();
  assertEquals(await guest.config(), [3072, 0]);
  guest.data.bytes.fill(1);
  await guest.inflate(pages(FIRST_PAGE, 1024));
  assertEquals(guest.allocated, 12 * MIB);
});

Deno.test("a ring that is stopped gives the statistics' buffer back", async () => {
  await using balloon = await ServedBalloon.start({ statsInterval: 0 });
  using guest = await BalloonGuest.run(balloon.socket);
  guest.submit(STATS, { readable: freeMemory(1000) });
  await waitUntil(async () => (await balloon.status()).stats.freeMemory > 0, {
    what: "the statistics",
  });
  assertEquals(await guest.frontEnd.getVringBase(STATS), 0);
  await guest.frontEnd.setupRing(STATS, guest.driver(STATS), 0);
  await waitUntil(
    async () => (await balloon.status()).requests.statistics === 2,
    { what: "the statistics, again" },
  );
  assertEquals(guest.driver(STATS).usedPending, false);
});

Deno.test("while writes are logged nothing goes back, and the balloon's pages follow", async () => {
  await using balloon = await ServedBalloon.start();
  using guest = await BalloonGuest.run(balloon.socket);
  const { frontEnd, drivers } = guest, full = guest.allocated;
  using log = new LogMemory(dirtyLogSize(DATA_BASE + full));
  await log.set(frontEnd);
  await setLogging(frontEnd, true, drivers);
  await guest.inflate(pages(FIRST_PAGE, 1024));
  await guest.report([FIRST_PAGE + 2048, 512]);
  assertEquals(guest.allocated, full);
  const { inhibited, waiting, reclaimed } = await balloon.status();
  assertEquals([inhibited, waiting, reclaimed], [true, 4 * MIB, 0]);
  await setLogging(frontEnd, false, drivers);
  await waitUntil(() => guest.allocated === full - 4 * MIB, {
    what: "the pages of the balloon to go",
  });
  const { data } = guest;
  assertEquals(data.bytes[2048 * PAGE], 0xaa, "what was reported stays");
  await waitUntil(async () => (await balloon.status()).waiting === 0, {
    what: "nothing to wait any more",
  });
});

Deno.test("guests come and go, and leave nothing", async () => {
  await using balloon = await ServedBalloon.start();
  await assertNoLeaks(async () => {
    using guest = await BalloonGuest.run(balloon.socket);
    guest.submit(STATS, { readable: freeMemory(1000) });
    await guest.inflate(pages(FIRST_PAGE, 100));
    await guest.request(REPORTING, {
      address: FIRST_PAGE * PAGE,
      length: MIB,
      write: true,
    });
    await guest.request(DEFLATE, { readable: pfns([FIRST_PAGE]) });
  });
});
