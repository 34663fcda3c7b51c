import { assert, assertEquals } from "@std/assert";
import { Watches } from "./watches.ts";

Deno.test("a number is given again when the kernel has let go of it", () => {
  const watches = new Watches();
  const first = watches.add(10, 1, 100);
  const second = watches.add(11, 1, 101);
  assertEquals([first, second], [0, 1]);
  assert(watches.isLive(first));
  assert(watches.end(first));
  assert(!watches.isLive(first));
  assert(!watches.end(first));
  assertEquals(watches.numbers(), [0, 1]);
  assertEquals(watches.add(12, 2, 102), 2);
  watches.over(first);
  assertEquals(watches.numbers(), [1, 2]);
  assertEquals(watches.add(13, 3, 103), first);
  assertEquals(
    [watches.fds, watches.sources, watches.tokens],
    [[13, 11, 12], [3, 1, 2], [103, 101, 102]],
  );
});

Deno.test("a number whose poll ended by itself belongs to its watcher yet", () => {
  const watches = new Watches();
  const first = watches.add(10, 1, 100);
  watches.over(first);
  assert(!watches.isLive(first));
  assertEquals(watches.numbers(), []);
  const second = watches.add(11, 1, 101);
  assertEquals(second, 1);
  // There is nothing left for the kernel to end.
  assert(!watches.end(first));
  assert(watches.isLive(second));
  assertEquals(watches.add(12, 1, 102), first);
  assert(watches.isLive(first));
});

Deno.test("what was never there is not live, and cannot be ended", () => {
  const watches = new Watches();
  assert(!watches.isLive(0));
  assert(!watches.end(0));
  assertEquals(watches.numbers(), []);
});
