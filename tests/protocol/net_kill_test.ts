/**
 * The process of network devices is killed under traffic. Front-ends connect
 * again as QEMU does: rings go on behind the last used buffer, and nothing is
 * kicked, receive rings neither.
 */

import { assertEquals } from "@std/assert";
import { packet } from "../../backends/net/testing/packets.ts";
import { setCloexec } from "../../sys/fd.ts";
import { Tap } from "../../sys/tap.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { NetGuest } from "./net.ts";
import { killDevices, serveNet } from "./net_command.ts";

const KILLS = 3;
const ALICE = [2, 0, 0, 0, 0, 0xa], BOB = [2, 0, 0, 0, 0, 0xb];
const ROUND = 32;

/** Frames that come out of a receive ring, whose buffers go back into it. */
function take(guest: NetGuest): Uint8Array[] {
  const done = guest.guest.drivers[0].reap();
  if (done.length > 0) guest.fill(done.length);
  return done.map(({ data, length }) => data.slice(guest.headerSize, length));
}

/** Sends a frame now and then until there is an answer to it. */
async function until(
  sender: NetGuest,
  frame: Uint8Array,
  arrived: () => boolean,
): Promise<void> {
  await waitUntil(() => {
    sender.guest.drivers[1].reap();
    sender.send([frame]);
    return arrived();
  }, { what: "a frame to arrive", timeout: 20_000, interval: 5 });
}

/** Waits until all that was sent came back, from before the kills too. */
async function settle({ guest }: NetGuest): Promise<void> {
  await waitUntil(() => {
    guest.drivers[1].reap();
    return guest.drivers[1].inFlight === 0;
  }, { what: "the frames that were sent" });
}

/** Kills the process of a TAP under traffic, again and again. */
async function killTap(name: string, keys: string): Promise<void> {
  using directory = TemporaryDirectory.make("tap");
  const socket = directory.file("net.sock");
  ip("addr", "add", "10.9.0.1/24", "dev", name);
  ip("link", "set", name, "up");
  await using server = await serveNet([
    `socket=${socket},backend=tap,${keys}`,
  ]);
  using guest = await NetGuest.run(socket);
  guest.fill(128);
  const question = new Uint8Array([
    ...[255, 255, 255, 255, 255, 255, ...ALICE, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ...[...ALICE, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1],
  ]);
  const answered = () =>
    take(guest).some((frame) => frame[12] === 8 && frame[21] === 2);
  for (let kill = 0; kill <= KILLS; kill++) {
    await until(guest, question, answered);
    if (kill === KILLS) break;
    guest.send(Array.from({ length: ROUND }, () => question));
    await killDevices(server);
    await guest.guest.reconnect(socket);
  }
  await settle(guest);
  assertEquals((await server.stop("SIGTERM")).code, 0);
}

if (inNamespace("devices that are killed under traffic", import.meta.url)) {
  Deno.test(`a switch killed ${KILLS} times: traffic goes on`, async () => {
    using directory = TemporaryDirectory.make("lan");
    const sockets = [directory.file("a.sock"), directory.file("b.sock")];
    await using server = await serveNet(
      sockets.map((socket) => `socket=${socket},backend=switch,name=lan`),
    );
    using alice = await NetGuest.run(sockets[0]);
    using bob = await NetGuest.run(sockets[1]);
    for (const guest of [alice, bob]) guest.fill(128);
    const forth = packet({ from: ALICE, to: BOB, payload: 700 }).bytes;
    const back = packet({ from: BOB, to: ALICE, payload: 300 }).bytes;
    const all = (frames: Uint8Array[], expected: Uint8Array) => {
      for (const frame of frames) assertEquals(frame, expected);
      return frames.length > 0;
    };
    for (let kill = 0; kill <= KILLS; kill++) {
      await until(alice, forth, () => all(take(bob), forth));
      await until(bob, back, () => all(take(alice), back));
      if (kill === KILLS) break;
      alice.send(Array.from({ length: ROUND }, () => forth));
      bob.send(Array.from({ length: ROUND }, () => back));
      await killDevices(server);
      await alice.guest.reconnect(sockets[0]);
      await bob.guest.reconnect(sockets[1]);
    }
    await settle(alice);
    await settle(bob);
    // More than a ring has buffers: all of them are used, again and again.
    for (let round = 0; round < 8; round++) {
      alice.send(Array.from({ length: ROUND }, () => forth));
      let received = 0;
      await waitUntil(() => {
        const frames = take(bob);
        all(frames, forth);
        received += frames.length;
        return received >= ROUND;
      }, { what: `round ${round} after the kills` });
      await settle(alice);
    }
    assertEquals((await server.stop("SIGTERM")).code, 0);
  });

  Deno.test(`a TAP killed ${KILLS} times: traffic goes on`, async () => {
    // It stays when the process is gone.
    ip("tuntap", "add", "dev", "kill0", "mode", "tap", "vnet_hdr");
    await killTap("kill0", "ifname=kill0");
    ip("link", "delete", "kill0");
  });

  Deno.test(`a TAP of a descriptor, killed ${KILLS} times: traffic goes on`, async () => {
    using tap = Tap.open("kill1");
    // The command inherits it.
    setCloexec(tap.fd, false);
    await killTap("kill1", `tapfd=${tap.fd}`);
  });
}
