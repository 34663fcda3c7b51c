/**
 * Hostile file descriptors on the socket of a served disk: see `bench.ts` for
 * what is asserted after each of them.
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import type { SystemError } from "../../sys/errno.ts";
import { EventFd } from "../../sys/eventfd.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import {
  createFullEventFd,
  OddDescriptors,
} from "../../sys/testing/odd_descriptors.ts";
import { FrontEndMessage, MAX_FDS } from "../../vhost/constants.ts";
import { encodeMemoryRegion, encodeMessage } from "../../vhost/message.ts";
import { type FrontEnd, FrontEndError } from "../../vhost/testing/front_end.ts";
import { T_IN } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { useBench, VICTIM } from "./bench.ts";
import { FAR, HostileGuest, RING_SIZE } from "./guest.ts";

const theBench = useBench();

const M = FrontEndMessage;

Deno.test("descriptors of every kind in every place where one is expected", async (t) => {
  const bench = theBench(), { server } = bench;
  using directory = TemporaryDirectory.make("odd");
  using odd = new OddDescriptors(directory.path);
  const region = encodeMemoryRegion({
    guestAddress: FAR * 2,
    size: 0x2000,
    userAddress: FAR * 2,
    mmapOffset: 0,
  });
  const places: readonly (readonly [
    string,
    (frontEnd: FrontEnd, fd: number) => Promise<void>,
    readonly string[],
  ])[] = [
    ["kick", (f, fd) => f.setVringKick(0, fd), ["an eventfd"]],
    ["call", (f, fd) => f.setVringCall(0, fd), ["an eventfd"]],
    ["error", (f, fd) => f.setVringErr(0, fd), ["an eventfd"]],
    ["memory", (f, fd) => f.set(M.ADD_MEM_REG, region, [fd]), ["/dev/zero"]],
    [
      "back-end channel",
      (f, fd) => f.set(M.SET_BACKEND_REQ_FD, undefined, [fd]),
      ["a connected socket", "its other end", "a socket that was hung up"],
    ],
    ["nowhere", (f, fd) => f.set(M.SET_OWNER, undefined, [fd]), []],
  ];
  for (const [kind, fd] of odd.entries) {
    await t.step(kind, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM));
        await guest.verify(0);
        let refused = 0;
        for (const [place, send, accepted] of places) {
          if (accepted.includes(kind)) {
            await send(guest.frontEnd, fd);
            continue;
          }
          await assertRejects(
            () => send(guest.frontEnd, fd),
            FrontEndError,
            "refused",
            place,
          );
          const { session } = await server.status(VICTIM);
          assertEquals(session?.refused, ++refused, place);
          assertStringIncludes(session!.lastError!, "Cannot serve VHOST_USER_");
        }
        // The ring has the eventfd, or kept what it had.
        if (kind === "an eventfd") await guest.frontEnd.setVringKick(0);
        await guest.verify(0);
        await guest.verify(1);
      }));
  }
});

Deno.test("floods of descriptors are closed", async (t) => {
  const bench = theBench(), { server } = bench;
  using event = EventFd.create();
  const flood = new Array(MAX_FDS).fill(event.fd);
  await t.step("253 with each of 200 messages", () =>
    bench.attack(async () => {
      using guest = await HostileGuest.run(server.socket(VICTIM));
      const before = await server.settledHoldings();
      for (let i = 0; i < 200; i++) {
        // No message has this number: it is ignored.
        await guest.frontEnd.sendRaw(encodeMessage(1000, 1), flood);
      }
      await guest.frontEnd.getFeatures();
      const { session } = await server.status(VICTIM);
      assertEquals(session?.ignored, 200);
      await server.assertHolds(before);
      await guest.verify(0);
    }));
  await t.step(
    "253 with each byte of a message",
    () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM));
        const bytes = encodeMessage(M.SET_OWNER, 1);
        for (let i = 0; i < 2; i++) {
          await guest.frontEnd.sendRaw(bytes.subarray(i, i + 1), flood);
        }
        await guest.frontEnd.closedByPeer();
        await bench.left();
        const { lastDrop } = await server.status(VICTIM);
        assertStringIncludes(lastDrop!, "506 file descriptors came along");
      }),
  );
  await t.step(
    "in a message that is never completed, on many connections",
    () =>
      bench.attack(async () => {
        using first = UnixSocket.connect(server.socket(VICTIM));
        first.trySend(encodeMessage(M.SET_OWNER, 1).subarray(0, 5), flood);
        for (let i = 0; i < 100; i++) {
          using socket = UnixSocket.connect(server.socket(VICTIM));
          try {
            socket.trySend(encodeMessage(M.SET_OWNER, 1).subarray(0, 5), flood);
          } catch (error) {
            // Refused already.
            assertEquals((error as SystemError).kind, "EPIPE");
          }
          // Closed with all that was sent.
          await waitUntil(
            async () => (await server.status(VICTIM)).refusedConnections > i,
            { what: "the refusal", interval: 1 },
          );
        }
      }),
  );
});

Deno.test("eventfds that are full, or are all the same, or are repeated", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const nonblocking of [true, false]) {
    const how = nonblocking ? "are refused" : "block";
    await t.step(
      `full eventfds, to which signals ${how}`,
      () =>
        bench.attack(async () => {
          using guest = await HostileGuest.run(server.socket(VICTIM));
          const { frontEnd } = guest;
          guest.chain(0, [guest.header(T_IN, 1), guest.status()]);
          using call = createFullEventFd(nonblocking);
          await frontEnd.setVringCall(0, call.fd);
          guest.strike([0]);
          await guest.used(1);
          using error = createFullEventFd(nonblocking);
          await frontEnd.setVringErr(0, error.fd);
          guest.strike([RING_SIZE]);
          await waitUntil(async () => {
            const { rings } = await server.status(VICTIM);
            return rings.find(({ index }) => index === 0)?.badChains === 1;
          }, { what: "the bad head to be counted" });
          await guest.verify(1);
          // And once more, on the way out.
          using last = createFullEventFd(nonblocking);
          await frontEnd.setVringCall(0, last.fd);
          guest.strike([0]);
          await guest.used(2);
        }),
    );
  }
  await t.step("one eventfd for everything", () =>
    bench.attack(async () => {
      using guest = await HostileGuest.run(server.socket(VICTIM));
      const { frontEnd } = guest;
      const { fd } = frontEnd.events(0).kick;
      for (const ring of [0, 1]) {
        await frontEnd.setVringCall(ring, fd);
        await frontEnd.setVringErr(ring, fd);
        await frontEnd.setVringKick(ring, fd);
      }
      guest.strike([RING_SIZE]);
      await guest.verify(0);
      frontEnd.kick(0);
      await guest.verify(0);
    }));
  await t.step(
    "hundreds of each, one after the other",
    () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM));
        const { frontEnd, rings: [driver], regions } = guest;
        await guest.verify(0);
        const before = await server.settledHoldings();
        for (let i = 0; i < 400; i++) {
          await frontEnd.setVringCall(0);
          await frontEnd.setVringErr(0);
          await frontEnd.setVringNum(0, driver.size);
          await frontEnd.setVringAddr(0, driver);
        }
        for (let i = 0; i < 200; i++) {
          await frontEnd.setVringKick(0);
          await frontEnd.setVringEnable(0, i % 2 === 0);
          await frontEnd.setBackendReqFd();
          await frontEnd.setVringEnable(0, true);
          await frontEnd.getVringBase(1);
          await frontEnd.setVringBase(1, 0);
          await frontEnd.setVringKick(1);
        }
        for (let i = 0; i < 100; i++) await frontEnd.setMemTable(regions);
        await server.assertHolds(before);
        const { session } = await server.status(VICTIM);
        assertEquals(session?.refused, 0);
        assert(session!.messages.VHOST_USER_SET_VRING_NUM > 400);
        await guest.verify(0);
        await guest.verify(1);
      }),
  );
});
