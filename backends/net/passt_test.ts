/**
 * The passt backend with programs that do not do what passt does.
 */

import { assert, assertEquals } from "@std/assert";
import { TemporaryDirectory } from "../../tests/support/temporary_directory.ts";
import { ringTest } from "../../virtqueue/testing/ring_profile.ts";
import { NetBench } from "./testing/bench.ts";
import { packet } from "./testing/packets.ts";

/** A script in place of passt; its path. */
function script(directory: TemporaryDirectory, text: string): string {
  const path = directory.file("passt");
  Deno.writeTextFileSync(path, `#!/bin/sh\n${text}\n`);
  Deno.chmodSync(path, 0o755);
  return path;
}

function statusOf(bench: NetBench): Record<string, unknown> {
  return bench.device.status().passt as Record<string, unknown>;
}

/** Whether a process is there, be it as a zombie. */
function isThere(pid: number): boolean {
  try {
    return Deno.statSync(`/proc/${pid}`).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("a passt that ended is reaped before the next one is started", async () => {
  using directory = TemporaryDirectory.make("passt");
  const passt = script(directory, "exec sleep 60");
  using bench = new NetBench({ backend: "passt", passt });
  const pid = statusOf(bench).pid as number;
  assert(isThere(pid));
  Deno.kill(pid, "SIGKILL");
  await bench.until(() => !isThere(pid));
  assertEquals(bench.device.config[6], 0);
  assertEquals([statusOf(bench).connected, statusOf(bench).connections], [
    false,
    1,
  ]);
});

Deno.test("a passt that closes its connection and stays is ended", async () => {
  using directory = TemporaryDirectory.make("passt");
  const text = "trap '' TERM; exec sleep 60 3<&-";
  const passt = script(directory, text);
  using bench = new NetBench({ backend: "passt", passt });
  const pid = statusOf(bench).pid as number;
  await bench.until(() => bench.device.config[6] === 0);
  // The next attempt kills it.
  await bench.until(() => !isThere(pid));
  assertEquals(statusOf(bench).connections, 2);
});

ringTest(
  "a passt that does not read holds frames up, and then loses them",
  async () => {
    using directory = TemporaryDirectory.make("passt");
    const passt = script(directory, "exec sleep 60");
    using bench = new NetBench({ backend: "passt", passt });
    const { bytes } = packet({ payload: 1400 });
    let sent = 0, done = 0;
    while (done === sent) {
      done += bench.send(bytes).length;
      sent++;
      assert(sent < 10_000, "the socket takes all");
    }
    assertEquals(bench.count("txStalled"), 0);
    for (let i = 0; i < 20; i++, sent++) done += bench.send(bytes).length;
    assertEquals(sent - done, 21);
    // The driver says nothing more, and gets all back.
    const driver = bench.drivers.get(1)!;
    await bench.until(() => {
      done += driver.reap().length;
      return done === sent;
    });
    assertEquals(bench.count("txStalled"), 21);
    // From now on nothing waits.
    assertEquals(bench.send(bytes).length, 1);
    assertEquals(bench.count("txStalled"), 22);
  },
);

for (const text of ["exec sleep 60", "trap '' TERM; exec sleep 60"]) {
  Deno.test(`nothing is left of a device whose passt is "${text}"`, () => {
    using directory = TemporaryDirectory.make("passt");
    let pid = 0;
    {
      using bench = new NetBench({
        backend: "passt",
        passt: script(directory, text),
      });
      pid = statusOf(bench).pid as number;
      assert(isThere(pid));
    }
    assertEquals(isThere(pid), false);
  });
}
