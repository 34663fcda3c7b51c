/**
 * The process of a balloon: QEMU does not survive its end, so nothing else may
 * end it.
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import {
  BalloonGuest,
  FIRST_PAGE,
  PAGE,
  pages,
  STATS,
} from "../protocol/balloon.ts";
import { COMMAND_ARGUMENTS, ctl } from "../support/vhostd.ts";
import {
  ChildProcess,
  runCommand,
  waitForListener,
} from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { LIMIT, Server } from "./server.ts";

Deno.test("a disk that dies does not disturb a balloon", async () => {
  using directory = TemporaryDirectory.make("procs");
  const socket = directory.file("ball.sock");
  await using server = await Server.start({
    directory,
    disks: { a: "", b: "process=both", c: "process=both" },
    args: [`--balloon=id=ball,socket=${socket}`],
  });
  using guest = await BalloonGuest.run(socket);
  const full = guest.allocated;
  await guest.inflate(pages(FIRST_PAGE, 256));
  const pid = await server.pid("ball");
  for (const [name, restarts] of [["a", 1], ["b", 1], ["a", 2]] as const) {
    const victim = await server.pid(name);
    assert(victim !== pid, `"${name}" has the process of the balloon`);
    Deno.kill(victim, "SIGKILL");
    await server.until(name, "running", restarts);
    await guest.inflate(pages(FIRST_PAGE + 256 * restarts, 256));
    const status = await server.status("ball");
    assertEquals(
      [status.pid, status.restarts, status.connected],
      [pid, 0, true],
    );
  }
  assertEquals(guest.allocated, full - 3 * 256 * PAGE);
});

/** A driver that puts pages into the balloon, and takes them out, as it is asked. */
async function drive(guest: BalloonGuest, changes: number): Promise<void> {
  let actual = 0;
  for (let i = 0; i < changes; i++) {
    await guest.frontEnd.configChange();
    for (;;) {
      const [target] = await guest.config();
      const step = Math.max(-256, Math.min(target - actual, 256));
      if (step > 0) await guest.inflate(pages(FIRST_PAGE + actual, step));
      else if (step < 0) {
        await guest.deflate(pages(FIRST_PAGE + actual + step, -step));
      } else break;
      actual += step;
      await guest.writeActual(actual);
    }
  }
}

Deno.test("ctl balloon set --wait comes back when the guest has what it is to have", async () => {
  using directory = TemporaryDirectory.make("procs");
  const socket = directory.file("ball.sock");
  await using _server = await Server.start({
    directory,
    disks: {},
    args: [`--balloon=id=ball,socket=${socket}`],
  });
  using guest = await BalloonGuest.run(socket);
  const full = guest.allocated;
  const driver = drive(guest, 2);
  const set = (size: string): Promise<string> =>
    ctl(directory.file("management"), "balloon", "set", size, "--wait");
  // The memory of the rings counts, too: 24 MiB in all.
  assertEquals(
    await set("-25%"),
    "ball: the guest has 18 MiB of 24 MiB, it is to have 18 MiB (100 % of the way)\n" +
      "  reclaimed: 6 MiB\n",
  );
  assertEquals(guest.allocated, full - 1536 * PAGE);
  assertEquals(
    await set("24M"),
    "ball: the guest has 24 MiB of 24 MiB, it is to have 24 MiB (100 % of the way)\n" +
      "  reclaimed: 0 bytes\n",
  );
  await driver;
});

Deno.test("ctl balloon stats asks the driver, and prints what it says", async () => {
  using directory = TemporaryDirectory.make("procs");
  const socket = directory.file("ball.sock");
  await using _server = await Server.start({
    directory,
    disks: {},
    args: [`--balloon=id=ball,socket=${socket},stats-interval=0`],
  });
  using guest = await BalloonGuest.run(socket);
  const say = (tag: number, value: bigint): void => {
    const entry = new DataView(new ArrayBuffer(10));
    entry.setUint16(0, tag, true);
    entry.setBigUint64(2, value, true);
    guest.submit(STATS, { readable: new Uint8Array(entry.buffer) });
  };
  say(4, 1000n);
  const printed = ctl(directory.file("management"), "balloon", "stats");
  await guest.complete(STATS);
  // Tag 1000 has no name.
  say(1000, 7n);
  assertMatch(await printed, /^ball: \d+\.\d s old\n {2}tag1000: 7\n$/);
});

Deno.test("the program of QEMU's conventions serves a balloon", async () => {
  using directory = TemporaryDirectory.make("procs");
  const socket = directory.file("ball.sock");
  await using child = ChildProcess.start(Deno.execPath(), {
    name: "balloon",
    args: [...COMMAND_ARGUMENTS, "balloon", `--socket-path=${socket}`],
  });
  await waitForListener(socket, child);
  using guest = await BalloonGuest.run(socket);
  const full = guest.allocated;
  await guest.inflate(pages(FIRST_PAGE, 256));
  assertEquals(guest.allocated, full - 256 * PAGE);
  await guest.writeActual(256);
  assertEquals(await guest.config(), [0, 256]);
  child.signal("SIGTERM");
  assertEquals((await child.wait(LIMIT)).code, 0, child.stderr.text);
});

Deno.test("a balloon shares its process with nobody", async () => {
  const { code, stderr } = await runCommand(Deno.execPath(), {
    args: [
      ...COMMAND_ARGUMENTS,
      ...["serve", "--management=off", "--balloon=process=both"],
    ],
    anyCode: true,
    timeout: LIMIT,
  });
  assertEquals(code, 2);
  assertStringIncludes(stderr, '"process=both" is not possible');
});
