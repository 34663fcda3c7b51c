/**
 * A disk with nothing to do uses no processor time, whatever its front-end left
 * it with.
 */

import { assert, assertEquals } from "@std/assert";
import { EventFd } from "../../sys/eventfd.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { FrontEndMessage } from "../../vhost/constants.ts";
import { encodeMessage } from "../../vhost/message.ts";
import { Guest, SECTOR, T_IN } from "../protocol/disk.ts";
import { VhostdProcess } from "../protocol/vhostd_process.ts";
import { waitUntil } from "../support/deadline.ts";
import { HostileGuest, RING_SIZE } from "./guest.ts";

const M = FrontEndMessage;
/** How long (ms) is looked on. */
const PERIOD = 2_000;
/** Ticks of 10 ms that the runtime itself may need meanwhile. */
const RUNTIME = 2;

const DISKS = ["one", "two", "three", "four", "five"].map((name) => ({
  name,
  keys: "queues=2",
}));

/** Asserts that next to no processor time is used for a while. */
async function assertIdle(
  server: VhostdProcess,
  period: number = PERIOD,
): Promise<void> {
  // What was just done has its aftermath: garbage is collected, code compiled.
  let last = server.processorTicks();
  await waitUntil(() => {
    const before = last;
    last = server.processorTicks();
    return last === before;
  }, { what: "the server to come to rest", interval: 200, timeout: 20_000 });
  const before = server.processorTicks();
  // This is no wait for something: it is the period that is measured.
  await new Promise((resolve) => setTimeout(resolve, period));
  const used = server.processorTicks() - before;
  assert(used <= RUNTIME, `${used} ticks of 10 ms in ${period} ms`);
}

async function read(guest: Guest): Promise<void> {
  assertEquals((await guest.request(T_IN, 3, SECTOR)).status, 0);
}

Deno.test("rings that are started and idle use no processor time", async () => {
  await using server = await VhostdProcess.start({ disks: DISKS });
  using guest = await Guest.run(server.socket("one"), { rings: 2 });
  using flags = await Guest.run(server.socket("two"), {
    features: ~(1n << 29n),
  });
  for (let i = 0; i < 50; i++) {
    await read(guest);
    await read(flags);
  }
  await assertIdle(server);
  await read(guest);
  await read(flags);
});

Deno.test("what a hostile front-end leaves behind uses no processor time", async () => {
  await using server = await VhostdProcess.start({ disks: DISKS });
  // A ring that is broken, its kick signalled and never read.
  using broken = await HostileGuest.run(server.socket("one"));
  broken.jump(2 * RING_SIZE);
  await broken.errorSignalled();
  broken.frontEnd.kick(0);
  // A message that does not go on.
  using silent = UnixSocket.connect(server.socket("two"));
  using event = EventFd.create();
  silent.trySend(encodeMessage(M.SET_OWNER, 1).subarray(0, 7), [event.fd]);
  // Replies that are not read: the server waits for room.
  using deaf = UnixSocket.connect(server.socket("three"));
  const request = encodeMessage(M.GET_FEATURES, 1);
  while (deaf.trySend(request) > 0);
  // A back-end channel that was hung up, and one eventfd for everything.
  using shared = await HostileGuest.run(server.socket("four"));
  const [ours, theirs] = UnixSocket.pair();
  await shared.frontEnd.set(M.SET_BACKEND_REQ_FD, undefined, [theirs.fd]);
  theirs.close();
  ours.close();
  const { fd } = shared.frontEnd.events(0).kick;
  await shared.frontEnd.setVringCall(0, fd);
  await shared.frontEnd.setVringErr(0, fd);
  shared.strike([RING_SIZE]);
  await shared.verify(0);
  // Rings that wait for their memory.
  using homeless = await HostileGuest.run(server.socket("five"));
  for (const region of homeless.regions) {
    await homeless.frontEnd.remMemReg(region);
  }
  homeless.frontEnd.kick(0);
  await assertIdle(server, PERIOD / 2);
  await shared.verify(1);
  await broken.verify(1);
});
