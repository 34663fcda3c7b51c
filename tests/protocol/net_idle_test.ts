/**
 * Network devices with nothing to do use no processor time.
 */

import { assert } from "@std/assert";
import { ALICE, BOB, packet } from "../../backends/net/testing/packets.ts";
import { waitUntil } from "../support/deadline.ts";
import { inNamespace, ip } from "../support/namespace.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { NetGuest } from "./net.ts";
import { childrenOf, serveNet } from "./net_command.ts";
import { ticksOf } from "./vhostd_process.ts";

/** How long (ms) is looked on. */
const PERIOD = 2_000;
/** Ticks of 10 ms that the runtime itself may need meanwhile. */
const RUNTIME = 2;

if (inNamespace("idle network devices", import.meta.url)) {
  Deno.test("a switch, its uplink, a TAP and its Workers rest without frames", async () => {
    using directory = TemporaryDirectory.make("idle");
    const socket = (name: string) => directory.file(`${name}.sock`);
    await using server = await serveNet([
      `socket=${socket("alice")},backend=switch,uplink=tap:idle0`,
      `socket=${socket("bob")},backend=switch`,
      `socket=${socket("tap")},backend=tap,ifname=idle1,queues=2,workers=2`,
    ]);
    // Nothing of the kernel's own accord.
    for (const name of ["idle0", "idle1"]) {
      const path = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
      Deno.writeTextFileSync(path, "1");
      ip("link", "set", name, "up");
    }
    const options = { features: ~0n, rings: 5 };
    using alice = await NetGuest.run(socket("alice"));
    using bob = await NetGuest.run(socket("bob"));
    using tap = await NetGuest.run(socket("tap"), options);
    alice.fill(64);
    tap.fill(64);
    const forth = packet({ from: ALICE, to: BOB, payload: 300 }).bytes;
    for (let i = 0; i < 50; i++) {
      // Bob has no buffers: what comes for him is lost.
      alice.send([forth]);
      await alice.sent(1);
      tap.send([forth], i & 1);
      await tap.sent(1, i & 1);
    }
    const ticks = () =>
      [server.pid, ...childrenOf(server.pid)].map(ticksOf)
        .reduce((sum, each) => sum + each, 0);
    // What was just done has its aftermath: garbage is collected, code compiled.
    let last = ticks();
    await waitUntil(() => {
      const before = last;
      last = ticks();
      return last === before;
    }, { what: "the server to come to rest", interval: 200, timeout: 20_000 });
    const before = ticks();
    // This is no wait for something: it is the period that is measured.
    await new Promise((resolve) => setTimeout(resolve, PERIOD));
    const used = ticks() - before;
    assert(used <= RUNTIME, `${used} ticks of 10 ms in ${PERIOD} ms`);
    assert(!server.ended, server.stderr.text);
    // They have not died of it.
    bob.fill(8);
    alice.send([forth]);
    await bob.receive(1);
  });
}
