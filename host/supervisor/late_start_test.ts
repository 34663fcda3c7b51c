import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { waitUntil, withDeadline } from "../../tests/support/deadline.ts";
import { HostError } from "../error.ts";
import { Bench, isGone, LIMIT } from "./testing/bench.ts";

/** Has a device wait while it is made: it opens a pipe that nobody writes. */
function makePipe(path: string): void {
  const { success } = new Deno.Command("mkfifo", { args: [path] }).outputSync();
  assert(success, `mkfifo ${path}`);
}

/** Lets those go on who wait for a pipe, and whoever comes after them. */
function release(path: string): void {
  const writer = Deno.openSync(path, { write: true });
  Deno.removeSync(path);
  writer.close();
}

Deno.test("a process that hangs as it starts again is told of, and waited for", async () => {
  await using bench = new Bench();
  await bench.start([bench.device("a"), bench.device("b")], {
    startPatience: 100,
  });
  const pipe = bench.directory.file("a.refuse");
  makePipe(pipe);
  // The first start may have been late, too.
  const before = bench.logged("Waiting on: ").length;
  Deno.kill((await bench.facts("a")).pid, "SIGKILL");
  await waitUntil(
    async () => / waits for the word$/.test((await bench.facts("a")).problem!),
    { what: "the problem", timeout: LIMIT },
  );
  const { state, pid, problem } = await bench.facts("a");
  assertEquals([state, pid], ["restarting", null]);
  assertMatch(
    problem!,
    /^"a" not started after \d+ s: process \d+ waits for the word$/,
  );
  const error = await assertRejects(
    () => bench.command("a", "echo"),
    HostError,
  );
  assertMatch(error.message, /^It is not served at present: "a" not started/);
  const told = bench.logged("Waiting on: ").slice(before);
  assertEquals(told.length, 1);
  assertMatch(told[0], / warn {2}Waiting on: "a" not started.* device=a pid=/);
  assertEquals((await bench.facts("b")).state, "running");

  release(pipe);
  const back = await bench.until("a", "running", 1);
  assertEquals(back.problem, null);
  assertEquals(bench.logged("Served again").length, 1);
  const [line] = bench.logged("Started after ").filter((each) =>
    each.includes(`device=a pid=${back.pid}\n`)
  );
  assertMatch(line, / info {2}Started after \d+ s /);
});

Deno.test("a first start that hangs is told of, and can be stopped", async () => {
  await using bench = new Bench();
  makePipe(bench.directory.file("b.refuse"));
  bench.open([
    bench.device("a", { process: "pool" }),
    bench.device("b", { process: "pool" }),
  ], { startPatience: 100 });
  const refused = assertRejects(() => bench.supervisor.start(), HostError);
  const late = () => bench.logged("Waiting on: ").length > 0;
  await waitUntil(late, { what: "a line", timeout: LIMIT });
  await waitUntil(
    async () => /^"b" not .* the word$/.test((await bench.facts("b")).problem!),
    { what: "the problem", timeout: LIMIT },
  );
  const { pid } = await bench.facts("b");
  const clean = withDeadline(bench.supervisor.stop(), LIMIT, "the stop");
  assert(await clean);
  await refused;
  assert(isGone(pid));
  assertEquals(bench.logged("Started after"), []);
});
