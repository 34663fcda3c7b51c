import { assertEquals, assertMatch } from "@std/assert";
import { waitUntil } from "../tests/support/deadline.ts";
import { Logger } from "./log.ts";
import { StartWatch } from "./start_watch.ts";

/** The lines that are logged, without time. */
function lines(): [string[], Logger] {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line.slice(25).trim());
  return [lines, new Logger({ write })];
}

Deno.test("a start that takes long is told of, and that it ended well", async () => {
  const [told, log] = lines();
  using watch = new StartWatch(["a", "b", "c"], 7, log, 1);
  watch.making("b", '"disk.img" to open');
  assertEquals(watch.problem, null);
  await waitUntil(() => told.length > 0, { what: "a line" });
  assertMatch(
    told[0],
    /^warn {2}Waiting on: "b", "c" not started after \d+ s: process 7 waits for "disk.img" to open pid=7$/,
  );
  watch.making("c");
  assertMatch(
    watch.problem!,
    /^"c" not started after \d+ s: process 7 waits for "c" to be made$/,
  );
  watch.started();
  assertEquals(watch.problem, null);
  assertEquals(told.length, 2);
  assertMatch(told[1], /^info {2}Started after \d+ s pid=7$/);
});

Deno.test("a process that has not begun is told of as such", async () => {
  const [told, log] = lines();
  using watch = new StartWatch(["a"], 7, log, 1);
  await waitUntil(() => told.length > 0, { what: "a line" });
  assertMatch(watch.problem!, /: process 7 has not begun$/);
});

Deno.test("a start that is quick, or refused, is not told of", async () => {
  const [told, log] = lines();
  new StartWatch(["a"], 7, log, 1).started();
  new StartWatch(["a"], 7, log, 1)[Symbol.dispose]();
  using later = new StartWatch(["later"], 7, log, 2);
  await waitUntil(() => told.length > 0, { what: "a line" });
  assertEquals(told.length, 1);
  assertMatch(told[0], /"later" not started/);
  later.started();
});
