/**
 * Front-ends that send too much, or read too little: see `bench.ts` for what is
 * asserted after each of them. What they do, they do to themselves; others are
 * served meanwhile.
 */

import { assert, assertEquals } from "@std/assert";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { encodeMessage, encodeU64 } from "../../vhost/message.ts";
import { SECTOR } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { type HostileBench, SECTORS, useBench, VICTIM } from "./bench.ts";
import { HostileGuest, RING_SIZE } from "./guest.ts";
import { Storm } from "./storm.ts";

const theBench = useBench();

const M = FrontEndMessage;
/** What a process may grow by for one front-end that misbehaves. */
const GROWTH = 64 << 20;

/** Messages of a flood that may be served while twenty questions are asked. */
const MOST_BETWEEN = 1_000_000;

/** Asserts that the server answers, again and again, while a storm blows. */
async function assertAnswers(bench: HostileBench): Promise<void> {
  for (let i = 0; i < 20; i++) await bench.server.status("bystander");
}

Deno.test("a front-end that never reads replies waits, and nothing grows", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using socket = UnixSocket.connect(server.socket(VICTIM));
    const before = server.residentBytes();
    const request = encodeMessage(M.GET_FEATURES, 1);
    let sent = 0;
    const answered = async (): Promise<number> =>
      (await server.status(VICTIM)).session?.messages
        .VHOST_USER_GET_FEATURES ?? 0;
    let last = -1;
    // Both directions are full when neither side gets any further.
    await waitUntil(async () => {
      const start = sent;
      while (socket.trySend(request) === request.length) sent++;
      const now = await answered();
      const stuck = now === last && sent === start;
      last = now;
      return stuck;
    }, { what: "the back-end to stop reading" });
    assert(last > 0 && last < sent, `${last} of ${sent} were answered`);
    assert(server.residentBytes() - before < GROWTH);
    await assertAnswers(bench);
    assertEquals(await answered(), last);
  });
});

Deno.test("a flood of messages keeps nobody else from being served", async () => {
  const bench = theBench(), { server } = bench;
  for (const payload of [encodeU64(0n), new Uint8Array(8000)]) {
    await bench.attack(async () => {
      // Ignored, without an answer: the flood never has to wait.
      const message = encodeMessage(M.SEND_RARP, 1, payload);
      const socket = server.socket(VICTIM);
      const storm = await Storm.begin({ kind: "messages", socket, message });
      const ignored = async (): Promise<number> =>
        (await server.status(VICTIM)).session?.ignored ?? 0;
      await waitUntil(async () => await ignored() > 500, {
        what: "the flood to arrive",
      });
      const before = await ignored();
      await assertAnswers(bench);
      // Others have their turn: not only when the flood ebbs by chance.
      const between = await ignored() - before;
      assert(between < MOST_BETWEEN, `${between} messages were served first`);
      assert(await storm.end() > 0);
    });
  }
});

Deno.test("a flood of connections keeps nobody else from being served", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const socket = server.socket(VICTIM);
    const storm = await Storm.begin({ kind: "connections", socket });
    await waitUntil(
      async () => (await server.status(VICTIM)).refusedConnections > 100,
      { what: "the flood to arrive" },
    );
    await assertAnswers(bench);
    await guest.verify(0);
    assert(await storm.end() > 100);
  });
});

Deno.test("a storm of kicks keeps nobody else from being served", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const { fd } = guest.frontEnd.events(0).kick;
    const storm = await Storm.begin({ kind: "kicks", fd });
    await waitUntil(
      async () => (await server.status(VICTIM)).rings[0].kicks > 100,
      { what: "the storm to arrive" },
    );
    await assertAnswers(bench);
    // Not even other rings of the same device, nor its control.
    await guest.verify(1);
    await guest.verify(0);
    await guest.restart(1);
    await guest.verify(1);
    assert(await storm.end() > 100);
  });
});

Deno.test("a ring that is never empty keeps no other ring from being served", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const [driver] = guest.rings;
    // Heads that are none: nothing limits how fast they can be offered.
    for (let i = 0; i < RING_SIZE; i++) driver.setAvailable(i, 0xffff);
    for (let i = 0; i < 1000; i++) {
      driver.setAvailableIndex(driver.availableIndex + RING_SIZE);
      guest.frontEnd.kick(0);
      await waitUntil(() => driver.availEvent === driver.availableIndex, {
        what: "the ring to be looked at",
        interval: 0,
      });
      if (i % 200 === 0) await guest.verify(1);
    }
    const { rings } = await server.status(VICTIM);
    assertEquals(rings[0].badChains, 1000 * RING_SIZE);
  });
});

Deno.test("a back-end channel that is never read fills, and no more", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const [ours, theirs] = UnixSocket.pair();
    using channel = ours;
    await guest.frontEnd.set(M.SET_BACKEND_REQ_FD, undefined, [theirs.fd]);
    theirs.close();
    const before = server.residentBytes();
    const changes = 600;
    for (let i = 1; i <= changes; i++) {
      const sectors = SECTORS + (i % 2) * 8;
      Deno.truncateSync(server.image(VICTIM), sectors * SECTOR);
      await server.resize(VICTIM);
    }
    assert(server.residentBytes() - before < GROWTH);
    await guest.verify(0);
    const chunk = new Uint8Array(4096);
    const take = (): number => {
      for (let bytes = 0;;) {
        const n = channel.tryReceive(chunk, []);
        if (n < 0) return bytes;
        assert(n > 0, "the channel was closed");
        bytes += n;
      }
    };
    const header = 12;
    const filled = take();
    assert(filled > 0 && filled < changes * header, `${filled} bytes`);
    // It goes on where it was, one message for each change again.
    Deno.truncateSync(server.image(VICTIM), (SECTORS + 8) * SECTOR);
    await server.resize(VICTIM);
    let more = 0;
    await waitUntil(() => (more += take()) > 0, { what: "the next change" });
    assertEquals((filled + more) % header, 0);
    Deno.truncateSync(server.image(VICTIM), SECTORS * SECTOR);
    await server.resize(VICTIM);
  });
});
