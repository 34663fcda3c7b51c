import { assertEquals } from "@std/assert";
import { describeExit } from "./exit_cause.ts";

function killed(signal: number, ...output: string[]): string {
  return describeExit({ code: null, signal }, output);
}

function exited(code: number, ...output: string[]): string {
  return describeExit({ code, signal: null }, output);
}

Deno.test("a signal has its name and what it means", () => {
  assertEquals(
    killed(9),
    "killed by SIGKILL (by somebody, or by the kernel for want of memory)",
  );
  assertEquals(
    killed(7, "unrelated"),
    "killed by SIGBUS (memory or a mapped file became shorter)",
  );
  assertEquals(killed(15), "killed by SIGTERM");
  assertEquals(killed(35), "killed by signal 35");
});

Deno.test("what the runtime said last is the cause", () => {
  assertEquals(
    killed(
      5,
      "<--- Last few GCs --->",
      "#",
      "# Fatal JavaScript out of memory: Reached heap limit",
      "#",
      "==== C stack trace ====",
    ),
    "killed by SIGTRAP: Fatal JavaScript out of memory: Reached heap limit",
  );
  assertEquals(
    killed(6, "thread 'main' (7) panicked at src/x.rs:1:2:", "note: run with"),
    "killed by SIGABRT: thread 'main' (7) panicked at src/x.rs:1:2:",
  );
  assertEquals(
    exited(1, "error: first", "error: Uncaught (in promise) Error: last", "at"),
    "exit code 1: Uncaught (in promise) Error: last",
  );
  assertEquals(exited(1, "nothing of note"), "exit code 1");
});

Deno.test("an end without a failure is told as such", () => {
  assertEquals(exited(0, "error: no"), "it ended by itself with exit code 0");
});
