/**
 * The process of a balloon: QEMU does not survive its end, so nothing else may
 * end it.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { BalloonGuest, FIRST_PAGE, PAGE, pages } from "../protocol/balloon.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { runCommand } from "../support/process.ts";
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
