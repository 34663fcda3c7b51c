import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { withDeadline } from "../../tests/support/deadline.ts";
import { assertNoLeaks } from "../../tests/support/leaks.ts";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { HostError } from "../error.ts";
import { Bench, isGone, LIMIT } from "./testing/bench.ts";

Deno.test("a process that dies is started again on the same socket", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a"), bench.device("b")]);
  const other = await bench.facts("b");
  // Other ways to die are in tests/processes, under load.
  const ways: [Deno.Signal, RegExp][] = [
    ["SIGKILL", /^killed by SIGKILL \(/],
    ["SIGTERM", /^it ended by itself with exit code 0$/],
  ];
  for (const [i, [way, expected]] of ways.entries()) {
    const { pid } = await bench.until("a", "running", i);
    Deno.kill(pid, way);
    // Connects while nobody accepts: it waits in the backlog.
    const frontEnd = FrontEnd.connect(bench.directory.file("a.sock"));
    const after = await bench.until("a", "running", i + 1);
    assertMatch(after.lastExit!, expected, way);
    assert(after.pid !== pid && isGone(pid), way);
    const [line, ...more] = bench.logged("The device process died: ")
      .filter((each) => each.includes(`pid=${pid}\n`));
    assertEquals(more, [], way);
    assertStringIncludes(
      line,
      ` error The device process died: ${after.lastExit}`,
    );
    assertMatch(line, /; starting it again( in [\d.]+ s)? device=a /);
    // The one that connected early may have met the one that was dying.
    frontEnd.close();
    const next = FrontEnd.connect(bench.directory.file("a.sock"));
    await next.handshake();
    next.close();
  }
  assertEquals(bench.logged("Served again").length, ways.length);
  const { pid, restarts } = await bench.facts("b");
  assertEquals([pid, restarts], [other.pid, 0]);
  assert(await bench.supervisor.stop());
});

Deno.test("who lives long comes back at once, who does not waits more and more", async () => {
  for (const longLife of [0, 60_000]) {
    await using bench = new Bench();
    await bench.start([bench.device("a")], { longLife });
    for (let i = 0; i < 3; i++) {
      Deno.kill((await bench.facts("a")).pid, "SIGKILL");
      await bench.until("a", "running", i + 1);
    }
    assertEquals(
      bench.logged("died").map((line) =>
        /starting it again(.*) device=/.exec(line)?.[1]
      ),
      longLife === 0 ? ["", "", ""] : ["", " in 0.1 s", " in 0.2 s"],
    );
  }
});

Deno.test("devices of one process die and come back together", async () => {
  await using bench = new Bench();
  await bench.start([
    bench.device("a", { process: "pool" }),
    bench.device("b", { process: "pool" }),
    bench.device("c"),
  ]);
  const [a, c] = [await bench.facts("a"), await bench.facts("c")];
  bench.command("b", "throw").catch(() => {});
  const after = [
    await bench.until("a", "running", 1),
    await bench.until("b", "running", 1),
  ];
  assertEquals(after[0].pid, after[1].pid);
  assert(after[0].pid !== a.pid);
  assertMatch(after[0].lastExit!, /^device "b" failed/);
  assertEquals((await bench.facts("c")).pid, c.pid);
  assertEquals(bench.logged("process=pool").length > 0, true);
});

Deno.test("a device that cannot start again is tried until it can", async () => {
  await using bench = new Bench();
  const refusal = bench.directory.file("a.refuse");
  await bench.start([bench.device("a"), bench.device("b")]);
  const { pid } = await bench.facts("a");
  Deno.writeTextFileSync(refusal, "The medium is gone");
  Deno.kill(pid, "SIGKILL");
  const failed = await bench.until("a", "failed", 3);
  assertEquals(
    [failed.pid, failed.rss, failed.problem, failed.connections],
    [null, null, "The medium is gone", 0],
  );
  assertMatch(failed.lastExit!, /^killed by SIGKILL/);
  const error = await assertRejects(
    () => bench.command("a", "echo"),
    HostError,
  );
  assertEquals(
    error.message,
    "It is not served at present: The medium is gone",
  );
  assertEquals((await bench.facts("b")).state, "running");
  // The reason is logged once, not at each attempt.
  assertEquals(
    bench.logged("Cannot serve it again: The medium is gone; trying on").length,
    1,
  );
  Deno.removeSync(refusal);
  const back = await bench.until("a", "running");
  assertEquals(back.problem, null);
  assertEquals(await bench.command("a", "echo"), {});
});

Deno.test("stopping does not wait for a device that is tried again", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  Deno.writeTextFileSync(bench.directory.file("a.refuse"), "gone");
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await bench.until("a", "failed", 2);
  assert(await withDeadline(bench.supervisor.stop(), LIMIT, "the stop"));
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.logged("Served again"), []);
});

Deno.test("a supervisor leaks nothing over the lives of its processes", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  let restarts = 0;
  await assertNoLeaks(async () => {
    Deno.kill((await bench.facts("a")).pid, "SIGKILL");
    await bench.until("a", "running", ++restarts);
  });
});
