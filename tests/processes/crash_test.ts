import { assert, assertEquals } from "@std/assert";
import { Guest } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { CrashGuest } from "./crash.ts";
import { VerifiedLoad } from "./load.ts";
import { isGone, Server } from "./server.ts";
import { KINDS, PACKED_KINDS, robOfServers } from "./robbery.ts";

const SECTORS = 4096;

for (const kind of KINDS) {
  kind.requirement.test(
    `killed 70 times under load, and the guest does not notice: ${kind.name}`,
    async () => {
      console.log(await robOfServers(kind, 70));
    },
  );
}

for (const kind of PACKED_KINDS) {
  kind.requirement.test(
    `killed 100 times under load, and the guest does not notice: ${kind.name}`,
    async () => {
      console.log(await robOfServers(kind, 100));
    },
  );
}

Deno.test("the supervisor starts what was killed again, and nothing is lost", async () => {
  const KILLS = 3;
  await using server = await Server.start({
    disks: { a: "direct=on,share=on", b: "" },
    sectors: SECTORS,
  });
  await using other = await VerifiedLoad.start(server.socket("b"), SECTORS);
  const undisturbed = await server.pid("b");
  using guest = new CrashGuest({ depth: 64, sectors: SECTORS, seed: 7 });
  let restarts = 0;
  for (let met = 0; met < KILLS; restarts++) {
    assert(restarts < 4 * KILLS, "too few kills met requests in flight");
    await server.until("a", "running", restarts);
    const pid = await server.pid("a");
    await guest.connect(server.socket("a"));
    const goal = guest.answered + 200;
    await guest.run(() => guest.answered >= goal);
    // At once: nothing may be waited for while requests are in flight.
    Deno.kill(pid, "SIGKILL");
    await waitUntil(() => isGone(pid), { what: "its end" });
    if (guest.trackedRequests > 0) met++;
    await other.progress();
  }
  await server.until("a", "running", restarts);
  await guest.connect(server.socket("a"));
  await guest.finish();
  await guest.leave();
  guest.check(server.image("a"));
  await other.stop();
  assertEquals(await server.pid("b"), undisturbed);
});

Deno.test("a cache mode that the driver chose outlives the death of the process", async () => {
  const WRITEBACK = 32;
  await using server = await Server.start({ disks: { a: "" } });
  const cache = async () =>
    (await server.status("a") as unknown as {
      device: { cache: string };
    }).device.cache;
  {
    using guest = await Guest.run(server.socket("a"));
    assertEquals(await cache(), "writeback");
    await guest.frontEnd.setConfig(WRITEBACK, new Uint8Array([0]));
    assertEquals(await cache(), "writethrough");
  }
  const pid = await server.pid("a");
  Deno.kill(pid, "SIGKILL");
  await server.until("a", "running", 1);
  {
    // As QEMU does, the front-end goes on without saying it again.
    using guest = await Guest.run(server.socket("a"));
    const [writeback] = await guest.frontEnd.getConfig(WRITEBACK, 1);
    assertEquals([await cache(), writeback], ["writethrough", 0]);
    await guest.frontEnd.setConfig(WRITEBACK, new Uint8Array([1]));
  }
  Deno.kill(await server.pid("a"), "SIGKILL");
  await server.until("a", "running", 2);
  using _guest = await Guest.run(server.socket("a"));
  assertEquals(await cache(), "writeback");
});
