/**
 * Hostile messages on the socket of a served disk: see `bench.ts` for what is
 * asserted after each of them.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { EventFd } from "../../sys/eventfd.ts";
import { Reactor } from "../../sys/reactor.ts";
import {
  FrontEndMessage,
  MAX_PAYLOAD_SIZE,
  messageName,
  VHOST_USER_NEED_REPLY,
  VHOST_USER_VERSION,
} from "../../vhost/constants.ts";
import { encodeMessage, encodeU64 } from "../../vhost/message.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import {
  HOSTILE_MESSAGES,
  type HostileMessage,
  type Outcome,
} from "../../vhost/testing/hostile_messages.ts";
import { Guest, SECTOR, T_IN } from "../protocol/disk.ts";
import type { Holdings } from "../protocol/vhostd_process.ts";
import { type HostileBench, SINGLE, useBench, VICTIM } from "./bench.ts";

const theBench = useBench();

const M = FrontEndMessage;
/** A guest with the memory and the ring that the table is about. */
function connectSingle(bench: HostileBench): Promise<Guest> {
  return Guest.run(bench.server.socket(SINGLE), {
    base: 0x10000,
    memory: 0x10000,
    size: 8,
  });
}

async function read(guest: Guest): Promise<void> {
  const { status, data } = await guest.request(T_IN, 3, SECTOR);
  assertEquals(status, 0);
  assertEquals(new Uint32Array(data.slice().buffer)[0], 3);
}

/** What came of a message that was sent last. */
async function outcomeOf(guest: Guest, ack: boolean): Promise<Outcome> {
  const { frontEnd } = guest;
  if (ack) {
    using reply = await frontEnd.receive();
    if (reply === null) return "dropped";
    assertEquals([reply.flags, reply.payload], [5, encodeU64(1n)]);
    return "refused";
  }
  const probe = encodeMessage(M.GET_QUEUE_NUM, VHOST_USER_VERSION);
  if (!await push(frontEnd, probe)) return "dropped";
  using reply = await frontEnd.receive();
  if (reply === null) return "dropped";
  assertEquals([reply.request, reply.flags], [M.GET_QUEUE_NUM, 5]);
  return "ignored";
}

/** Asserts that the connection was dropped, and is said to be, and why. */
async function assertDropped(
  bench: HostileBench,
  text: string,
  disk: string = SINGLE,
): Promise<void> {
  await bench.left(disk);
  const { lastDrop } = await bench.server.status(disk);
  assertStringIncludes(lastDrop ?? "not dropped", text);
}

async function send(
  bench: HostileBench,
  hostile: HostileMessage,
  ack: boolean,
  connected: Holdings,
): Promise<void> {
  const { server } = bench;
  using guest = await connectSingle(bench);
  using event = EventFd.create();
  await read(guest);
  const flags = VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0);
  await guest.frontEnd.sendRaw(
    encodeMessage(hostile.request, flags, hostile.payload),
    new Array(hostile.fds ?? 0).fill(event.fd),
  );
  const outcome = await outcomeOf(guest, ack);
  assertEquals(outcome, hostile.outcome[ack ? 0 : 1]);
  if (outcome === "dropped") {
    await assertDropped(bench, hostile.text);
    return;
  }
  const { session } = await server.status(SINGLE);
  assertEquals(session?.refused, ack ? 1 : 0);
  assertEquals(session?.ignored, ack ? 0 : 1);
  assertStringIncludes(session!.lastError!, hostile.text);
  await server.assertHolds(connected);
  await read(guest);
}

for (const ack of [true, false]) {
  const how = ack ? "with" : "without";
  Deno.test(`messages that must not be sent, ${how} a wish for an answer`, async (t) => {
    const bench = theBench();
    let connected: Holdings;
    {
      using guest = await connectSingle(bench);
      await read(guest);
      connected = await bench.server.settledHoldings();
    }
    await bench.left(SINGLE);
    for (const hostile of HOSTILE_MESSAGES) {
      await t.step(
        hostile.name,
        () =>
          bench.attack(() => send(bench, hostile, ack, connected), {
            disk: SINGLE,
          }),
      );
    }
  });
}

Deno.test("bytes that are no message end the connection", async (t) => {
  const bench = theBench();
  const header = (...words: number[]) =>
    new Uint8Array(new Uint32Array(words).buffer);
  const cases: readonly (readonly [string, Uint8Array, string])[] = [
    ["protocol version 0", header(1, 0, 0), "protocol version 0 is not 1"],
    ["protocol version 3", header(1, 3, 0), "protocol version 3 is not 1"],
    ["a reply", header(1, 5, 0), "it is a reply to nothing"],
    ["a payload of 8105 bytes", header(5, 1, 8105), "payload size 8105"],
    ["a payload of 4 GiB", header(5, 1, 0xffff_ffff), "size 4294967295"],
    [
      "a request of another protocol",
      new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
      "protocol version",
    ],
    ["bytes of 0xff", new Uint8Array(4096).fill(0xff), "protocol version 3"],
  ];
  for (const [name, bytes, text] of cases) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await connectSingle(bench);
        using event = EventFd.create();
        await guest.frontEnd.sendRaw(bytes, new Array(253).fill(event.fd));
        await guest.frontEnd.closedByPeer();
        await assertDropped(bench, text);
      }, { disk: SINGLE }));
  }
});

Deno.test("every message with a payload of every wrong size, full of ones, zeroes and descriptors", async (t) => {
  const bench = theBench(), { server } = bench;
  using event = EventFd.create();
  using reactor = new Reactor();
  const sizes = [0, 1, 7, 8, 9, 12, 24, 40, 41, 256, MAX_PAYLOAD_SIZE];
  const fds = new Array(16).fill(event.fd);
  for (let request = 0; request <= 44; request += 5) {
    const upTo = Math.min(44, request + 4);
    await t.step(
      `${messageName(request)} to ${messageName(upTo)}`,
      () =>
        bench.attack(async () => {
          for (let number = request; number <= upTo; number++) {
            for (const size of sizes) {
              await sweep(server.socket(SINGLE), reactor, number, size, fds);
              await bench.left(SINGLE);
            }
          }
        }, { disk: SINGLE }),
    );
  }
});

/** A message of ones, and one of zeroes, each with and without a wish. */
async function sweep(
  socket: string,
  reactor: Reactor,
  request: number,
  size: number,
  fds: readonly number[],
): Promise<void> {
  for (const fill of [0, 0xff]) {
    using frontEnd = FrontEnd.connect(socket, reactor);
    const payload = new Uint8Array(size).fill(fill);
    for (const flags of [VHOST_USER_NEED_REPLY | 1, 1]) {
      await push(frontEnd, encodeMessage(request, flags, payload), fds);
    }
    await settled(frontEnd);
  }
}

/** Sends a message as it is; false when the connection has ended. */
function push(
  frontEnd: FrontEnd,
  bytes: Uint8Array,
  fds: readonly number[] = [],
): Promise<boolean> {
  return frontEnd.sendRaw(bytes, fds).then(() => true, () => false);
}

/**
 * Waits until all that was sent is taken up, or has ended the connection.
 *
 * @returns how many replies there were
 */
async function settled(frontEnd: FrontEnd): Promise<number> {
  await push(frontEnd, encodeMessage(M.GET_FEATURES, VHOST_USER_VERSION));
  for (let replies = 0;; replies++) {
    using reply = await frontEnd.receive();
    if (reply === null || reply.request === M.GET_FEATURES) return replies;
  }
}

/** A message that may come at any time, sent as it is. */
const anyMessage = fc.record({
  request: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...Object.values(M)) },
    { weight: 1, arbitrary: fc.nat(64) },
  ),
  ack: fc.boolean(),
  words: fc.array(
    fc.oneof(
      fc.constantFrom(0, 1, 2, 8, 128, 0x10_0000, 0xff, 0xffff_ffff),
      fc.nat(),
    ),
    { maxLength: 12 },
  ),
  fds: fc.constantFrom(0, 0, 1, 1, 2, 253),
});

Deno.test("messages in any order, with any contents, harm nobody else", async () => {
  const bench = theBench(), { server } = bench;
  using event = EventFd.create();
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyMessage, { minLength: 1, maxLength: 40 }),
      fc.boolean(),
      async (messages, started) => {
        await bench.attack(async () => {
          using guest = await Guest.connect(server.socket(VICTIM));
          if (started) await guest.start();
          for (const { request, ack, words, fds } of messages) {
            const flags = 1 | (ack ? VHOST_USER_NEED_REPLY : 0);
            const payload = new Uint8Array(new Uint32Array(words).buffer);
            const bytes = encodeMessage(request, flags, payload);
            const sent = new Array(fds).fill(event.fd);
            if (!await push(guest.frontEnd, bytes, sent)) break;
          }
          answered += await settled(guest.frontEnd);
        });
      },
    ),
    { numRuns: 25 },
  );
  assert(answered > 0);
});

Deno.test("a message that is cut off anywhere holds nobody up", async () => {
  const bench = theBench(), { server } = bench;
  using event = EventFd.create();
  const whole = encodeMessage(M.ADD_MEM_REG, 1, new Uint8Array(40));
  let dropped = (await server.status(VICTIM)).droppedConnections;
  for (const length of [1, 11, 12, 13, 51]) {
    await bench.attack(async () => {
      using frontEnd = FrontEnd.connect(server.socket(VICTIM));
      await frontEnd.getFeatures();
      const before = await server.settledHoldings();
      await frontEnd.sendRaw(whole.subarray(0, length), [event.fd]);
      // Then silence: others are served, and told that the device is taken.
      using second = FrontEnd.connect(server.socket(VICTIM));
      await second.closedByPeer();
      const { connected, session } = await server.status(VICTIM);
      assert(connected);
      assertEquals(session?.lastError, null);
      const descriptors = before.descriptors + 1;
      await server.assertHolds({ ...before, descriptors });
    });
    const { lastDrop, droppedConnections } = await server.status(VICTIM);
    assertEquals(droppedConnections, ++dropped);
    assertStringIncludes(
      lastDrop!,
      length < 12
        ? `the front-end left after ${length} of 12 header bytes`
        : length === 12
        ? "the front-end left after 0 of 40 payload bytes"
        : `the front-end left after ${length - 12} of 40 payload bytes`,
    );
  }
});
