import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DeadlineError, waitUntil, withDeadline } from "./deadline.ts";
import {
  ChildProcess,
  lastLines,
  ProcessError,
  runCommand,
  waitForListener,
} from "./process.ts";
import { TemporaryDirectory } from "./temporary_directory.ts";

Deno.test("runCommand returns both outputs", async () => {
  assertEquals(
    await runCommand("sh", { args: ["-c", "echo out; echo err >&2"] }),
    { code: 0, stdout: "out\n", stderr: "err\n" },
  );
});

Deno.test("runCommand throws for an exit code, with what was said", async () => {
  const error = await assertRejects(
    () =>
      runCommand("sh", { args: ["-c", "echo no disk >&2; exit 3"], name: "x" }),
    ProcessError,
    "x ended with code 3:\nno disk",
  );
  assertEquals(error.kind, "failed");
  const options = { args: ["-c", "exit 3"], anyCode: true };
  assertEquals((await runCommand("sh", options)).code, 3);
});

Deno.test("runCommand kills what takes too long", async () => {
  const error = await assertRejects(
    () =>
      runCommand("sh", {
        args: ["-c", "trap '' TERM; echo $$; exec cat /dev/zero > /dev/null"],
        timeout: 200,
      }),
    ProcessError,
  );
  assertEquals(error.kind, "timeout");
  const pid = Number(error.message.split("\n")[1]);
  assert(pid > 0);
  assertThrows(() => Deno.statSync(`/proc/${pid}`), Deno.errors.NotFound);
});

Deno.test("a command that does not exist is named", () => {
  const error = assertThrows(
    () => ChildProcess.start("/nonexistent/program"),
    ProcessError,
    "/nonexistent/program",
  );
  assertEquals(error.kind, "not-found");
});

Deno.test("a child's output is awaited by pattern", async () => {
  await using child = ChildProcess.start("sh", {
    args: ["-c", "echo listening on 7 >&2; exec cat"],
    stdin: "piped",
  });
  assertEquals((await child.expect(/listening on (\d)/)).groups[1], "7");
  assert(!child.ended);
});

Deno.test("a child that ends without the pattern ends the wait", async () => {
  await using child = ChildProcess.start("sh", {
    args: ["-c", "echo refused >&2; exit 1"],
    name: "server",
  });
  const error = await assertRejects(
    () => child.expect("listening"),
    ProcessError,
    "server ended without writing listening; its last lines:\nrefused",
  );
  assertEquals(error.kind, "ended");
  assertEquals((await child.status).code, 1);
});

Deno.test("stop kills a child that ignores the signal", async () => {
  await using child = ChildProcess.start("sh", {
    args: ["-c", "trap '' TERM; echo ready; while :; do read x; done"],
    stdin: "piped",
  });
  await child.expect("ready", 5_000, "stdout");
  assertEquals((await child.stop("SIGTERM", 200)).signal, "SIGKILL");
  assert(child.ended);
  child.signal("SIGTERM"); // no one is hit
});

Deno.test("a grandchild that keeps the pipe does not hold the end back", async () => {
  await using parent = ChildProcess.start("sh", {
    args: ["-c", "exec 3<&0; cat <&3 & echo $!"],
    stdin: "piped",
  });
  const { groups } = await parent.expect(/(\d+)\n/, 5_000, "stdout");
  assertEquals((await parent.wait(5_000)).code, 0);
  Deno.kill(Number(groups[1]), "SIGKILL");
});

Deno.test("disposing a child ends it", async () => {
  let kept: ChildProcess;
  {
    await using child = ChildProcess.start("cat", { stdin: "piped" });
    kept = child;
  }
  assertEquals((await kept.status).signal, "SIGTERM");
});

Deno.test("waitForListener returns when a server listens", async () => {
  using directory = TemporaryDirectory.make("process");
  const path = directory.file("a.sock");
  const waiting = waitForListener(path);
  using _listener = Deno.listen({ transport: "unix", path });
  await waiting;
});

Deno.test("waitForListener ends with a server that ends", async () => {
  using directory = TemporaryDirectory.make("process");
  await using server = ChildProcess.start("sh", {
    args: ["-c", "echo no socket for you >&2"],
    name: "server",
  });
  await assertRejects(
    () => waitForListener(directory.file("a.sock"), server),
    ProcessError,
    "no socket for you",
  );
});

Deno.test("waitForListener is bounded", async () => {
  using directory = TemporaryDirectory.make("process");
  // A file of that name is not enough.
  await Deno.writeTextFile(directory.file("a.sock"), "");
  await assertRejects(
    () => waitForListener(directory.file("a.sock"), undefined, 50),
    DeadlineError,
  );
});

Deno.test("withDeadline passes results and errors on", async () => {
  assertEquals(await withDeadline(Promise.resolve(3), 1_000, "three"), 3);
  await assertRejects(
    () => withDeadline(Promise.reject(new RangeError("no")), 1_000, "it"),
    RangeError,
  );
  await assertRejects(
    () => withDeadline(new Promise(() => {}), 20, "the end of days"),
    DeadlineError,
    "Waited 20 ms for the end of days",
  );
});

Deno.test("waitUntil looks again until the condition holds", async () => {
  let looks = 0;
  await waitUntil(() => ++looks === 3, { what: "three looks", interval: 1 });
  assertEquals(looks, 3);
  await assertRejects(
    () => waitUntil(() => false, { what: "never", timeout: 20 }),
    DeadlineError,
  );
});

Deno.test("lastLines cuts from the front", () => {
  assertEquals(lastLines("a\nb\nc\n", 2), "b\nc");
});
