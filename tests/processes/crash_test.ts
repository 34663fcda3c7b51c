import { assert, assertEquals } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { mappingsOf } from "../../sys/mapping.ts";
import { Guest, SECTOR } from "../protocol/disk.ts";
import { ChildProcess } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { waitUntil } from "../support/deadline.ts";
import { CrashGuest } from "./crash.ts";
import { VerifiedLoad } from "./load.ts";
import { isGone, Server } from "./server.ts";

const SECTORS = 4096;
/** Kills with requests in flight, for each kind of disk. */
const KILLS = Number(Deno.env.get("VHOSTD_KILLS") ?? 70);

/** Kinds of disks, each with other instants at which requests are in flight. */
const KINDS: readonly [name: string, keys: string, depth: number][] = [
  ["io_uring, direct", "engine=io_uring,direct=on", 64],
  ["io_uring", "engine=io_uring,poll=off", 64],
  ["sync", "engine=sync,wce=off", 32],
];

function serve(image: string, socket: string, keys: string): ChildProcess {
  return ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [
      ...COMMAND_ARGUMENTS,
      "serve",
      "--supervise=off",
      "--management=off",
      "--log-level=error",
      `--blk=path=${image},socket=${socket},${keys}`,
    ],
  });
}

for (const [seed, [name, keys, depth]] of KINDS.entries()) {
  Deno.test(`killed ${KILLS} times under load, and the guest does not notice: ${name}`, async () => {
    using directory = TemporaryDirectory.make("crash");
    const image = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    Deno.writeFileSync(image, new Uint8Array(SECTORS * SECTOR));
    using guest = new CrashGuest({
      depth,
      sectors: SECTORS,
      seed: 0x9e37_79b9 + seed,
    });
    const flights: number[] = [];
    const own: [fds: number, areas: number][] = [];
    for (let kills = 0; flights.length < KILLS; kills++) {
      assert(kills < 3 * KILLS, "too few kills met requests in flight");
      await using server = serve(image, socket, keys);
      await guest.connect(socket);
      own.push([openFdCount(), mappingsOf("vhostd-inflight")]);
      // Some die at once, before their first answer; others have served for a
      // while.
      const end = performance.now() + (kills % 8) ** 2 / 2;
      await guest.run(() => performance.now() >= end);
      Deno.kill(server.pid, "SIGKILL");
      await server.status;
      const inFlight = guest.trackedRequests;
      if (inFlight > 0) flights.push(inFlight);
    }
    await using server = serve(image, socket, keys);
    await guest.connect(socket);
    await guest.finish();
    await guest.leave();
    guest.check(image);
    await server.stop();
    // Nothing piles up over the connections, after the first ones.
    assertEquals(own.at(-1), own[4]);
    flights.sort((a, b) => a - b);
    console.log(
      `${flights.length} kills with ${flights[0]} to ${
        flights.at(-1)
      } requests in flight, ${
        flights[flights.length >> 1]
      } at the median; ${guest.answered} requests answered`,
    );
  });
}

Deno.test("the supervisor starts what was killed again, and nothing is lost", async () => {
  const KILLED = 5;
  await using server = await Server.start({
    disks: { a: "engine=io_uring,direct=on", b: "" },
    sectors: SECTORS,
  });
  await using other = await VerifiedLoad.start(server.socket("b"), SECTORS);
  const undisturbed = await server.pid("b");
  using guest = new CrashGuest({ depth: 64, sectors: SECTORS, seed: 7 });
  let met = 0;
  for (let restarts = 0; restarts <= KILLED; restarts++) {
    await server.until("a", "running", restarts);
    await guest.connect(server.socket("a"));
    const goal = guest.answered + 200;
    await guest.run(() => guest.answered >= goal);
    if (restarts === KILLED) break;
    const pid = await server.pid("a");
    Deno.kill(pid, "SIGKILL");
    await waitUntil(() => isGone(pid), { what: "its end" });
    if (guest.trackedRequests > 0) met++;
    await other.progress();
  }
  assert(met > 0, "no kill met requests in flight");
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
