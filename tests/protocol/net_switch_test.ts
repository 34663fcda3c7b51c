/**
 * Two guests on one switch: two devices of one process, by the command line.
 */

import { assertEquals } from "@std/assert";
import { packet } from "../../backends/net/testing/packets.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess, waitForListener } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { NetGuest } from "./net.ts";

const ALICE = [2, 0, 0, 0, 0, 0xa], BOB = [2, 0, 0, 0, 0, 0xb];

/** Payload of frames that may get lost; no other frame is that long. */
const GREETING = 1400;

Deno.test("two guests on a switch reach each other", async () => {
  using directory = TemporaryDirectory.make("lan");
  const sockets = [directory.file("a.sock"), directory.file("b.sock")];
  await using server = ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [
      ...COMMAND_ARGUMENTS,
      ...["serve", "--management=off"],
      ...sockets.map((socket) =>
        `--net=socket=${socket},backend=switch,name=lan,process=lan`
      ),
    ],
  });
  for (const socket of sockets) await waitForListener(socket, server);
  using alice = await NetGuest.run(sockets[0]);
  using bob = await NetGuest.run(sockets[1]);
  alice.fill(128);
  bob.fill(128);
  // Until both rings are known, frames are lost: there was no room for them.
  await waitUntil(() => {
    alice.send([packet({ from: ALICE, to: BOB, payload: GREETING }).bytes]);
    return bob.guest.drivers[0].usedPending;
  }, { what: "the first frame" });
  await waitUntil(() => {
    bob.send([packet({ from: BOB, to: ALICE, payload: GREETING }).bytes]);
    return alice.guest.drivers[0].usedPending;
  }, { what: "the first answer" });
  for (let round = 0; round < 40; round++) {
    const sent = Array.from(
      { length: 40 },
      (_, i) => packet({ from: ALICE, to: BOB, payload: 20 * round + i }).bytes,
    );
    alice.send(sent);
    const received: Uint8Array[] = [];
    while (received.length < sent.length) {
      const frames = await bob.receive(1);
      bob.fill(frames.length);
      received.push(...frames.filter(({ length }) => length < GREETING));
    }
    assertEquals(received, sent);
    await alice.sent(40);
  }
  assertEquals((await server.stop("SIGTERM")).code, 0);
});
