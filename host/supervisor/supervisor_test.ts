import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { UnixListener } from "../../sys/unix_socket.ts";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import { HostError } from "../error.ts";
import { RemoteError } from "./control_channel.ts";
import { Bench, isGone, LIMIT } from "./testing/bench.ts";

Deno.test("each device has a process of its own, or the one it names", async () => {
  await using bench = new Bench();
  await bench.start([
    bench.device("a"),
    bench.device("b", { process: "pool" }),
    bench.device("c"),
    bench.device("d", { process: "pool" }),
  ]);
  const [a, b, c, d] = await Promise.all(
    ["a", "b", "c", "d"].map((name) => bench.facts(name)),
  );
  assertEquals(new Set([a.pid, b.pid, c.pid, Deno.pid]).size, 4);
  assertEquals(b.pid, d.pid);
  assertEquals([a.process, b.process], [null, "pool"]);
  for (const { state, restarts, lastExit, problem, rss } of [a, b, c, d]) {
    assertEquals(
      [state, restarts, lastExit, problem],
      ["running", 0, null, null],
    );
    assert(rss! > 10 << 20 && rss! < 500 << 20, `${rss}`);
  }
  const command = Deno.readTextFileSync(`/proc/${b.pid}/cmdline`).split("\0");
  assertEquals(command.slice(-3), ["b", "d", ""]);
  assert(await bench.supervisor.stop());
  for (const { pid } of [a, b, c]) assert(isGone(pid));
  assertEquals([...Deno.readDirSync(bench.directory.path)], []);
  assertEquals(bench.lines, []);
});

Deno.test("commands and their errors pass through", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  const [device] = bench.supervisor.devices;
  assertEquals(await device.command("echo", { x: [1] }), { x: [1] });
  const error = await assertRejects(
    () => device.command("refuse", {}),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["ENOSPC", "The medium is full"]);
});

Deno.test("what a device prints becomes log lines", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")]);
  await bench.command("a", "print");
  await waitUntil(() => bench.lines.length === 2, { what: "two lines" });
  const { pid } = await bench.facts("a");
  for (const text of ["printed", "complained"]) {
    const [line] = bench.logged(text);
    assertMatch(line, new RegExp(` warn {2}${text} device=a pid=${pid}\n$`));
  }
});

Deno.test("killing waits for nothing", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a"), bench.device("b")], {
    drainLimit: 10 * LIMIT,
  });
  const pids = [(await bench.facts("a")).pid, (await bench.facts("b")).pid];
  bench.command("a", "hang").catch(() => {});
  bench.supervisor.kill();
  await waitUntil(() => pids.every(isGone), {
    what: "the end",
    timeout: LIMIT,
  });
  assertEquals([...Deno.readDirSync(bench.directory.path)], []);
  await withDeadline(bench.supervisor.done, LIMIT, "the end");
  assertEquals(bench.logged("died"), []);
});

Deno.test("nothing is served when a device refuses to start", async () => {
  await using bench = new Bench();
  Deno.writeTextFileSync(bench.directory.file("b.refuse"), "No medium");
  bench.open([
    bench.device("a"),
    bench.device("b", { process: "pool" }),
    bench.device("c", { process: "pool" }),
  ]);
  const error = await assertRejects(
    () => withDeadline(bench.supervisor.start(), LIMIT, "the start"),
    RemoteError,
  );
  assertEquals([error.kind, error.message], ["EIO", "No medium"]);
  assert(await bench.supervisor.stop());
  assertEquals(
    [...Deno.readDirSync(bench.directory.path)].map(({ name }) => name),
    ["b.refuse"],
  );
  assertEquals(bench.lines, []);
});

Deno.test("a process that dies while it starts is told by its end", async () => {
  await using bench = new Bench();
  const broken = "data:application/typescript,throw%20new%20Error('broken')";
  bench.open([bench.device("a", { module: broken })]);
  await assertRejects(
    () => withDeadline(bench.supervisor.start(), LIMIT, "the start"),
    Error,
    "broken",
  );
  const started = assertRejects(
    () => bench.open([bench.device("b")]).start(),
    HostError,
    'Cannot serve "b": the device process died: killed by SIGKILL',
  );
  bench.supervisor.kill();
  await withDeadline(started, LIMIT, "the refusal");
});

Deno.test("a process that does not drain gives up, one that hangs is killed", async () => {
  await using bench = new Bench();
  const options = { drainLimit: 200 };
  await bench.start([bench.device("a"), bench.device("b")], options);
  const [a, b] = [await bench.facts("a"), await bench.facts("b")];
  bench.command("a", "hang").catch(() => {});
  Deno.kill(b.pid, "SIGSTOP");
  const clean = await withDeadline(bench.supervisor.stop(), LIMIT, "the stop");
  assertEquals(clean, false);
  assert(isGone(a.pid) && isGone(b.pid));
  const told = bench.logged(" error Cannot stop cleanly: ").map((line) =>
    line.replace(/^.*cleanly: /, "").trim()
  ).sort();
  assertEquals(told, [
    "exit code 1 device=a",
    "it did not end in 2200 ms and was killed device=b",
  ]);
});

Deno.test("a process that does not answer is told as such", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a")], { statusLimit: 100 });
  const { pid } = await bench.facts("a");
  Deno.kill(pid, "SIGSTOP");
  const silent = await bench.facts("a");
  assertEquals(
    [silent.state, silent.pid, silent.problem],
    ["running", pid, "No answer in 100 ms"],
  );
  // However often it is asked meanwhile, it has one question to answer.
  await Promise.all([0, 1, 2].map(() => bench.facts("a")));
  Deno.kill(pid, "SIGCONT");
  let asked: number | undefined;
  let times = 0;
  await waitUntil(async () => {
    times++;
    asked = (await bench.facts("a")).device.asked;
    return asked !== undefined;
  }, { what: "an answer" });
  // At the start, for its number, the one that it did not answer, those since.
  assert(asked! <= 3 + times, `asked ${asked} times`);
});

Deno.test("no socket is left open when one cannot be had", async () => {
  await using bench = new Bench();
  using _busy = UnixListener.listen(bench.directory.file("b.sock"));
  assertThrows(
    () => bench.open([bench.device("a"), bench.device("b")]),
    Error,
    "another server listens there already",
  );
  assertEquals(
    [...Deno.readDirSync(bench.directory.path)].map(({ name }) => name),
    ["b.sock"],
  );
});
