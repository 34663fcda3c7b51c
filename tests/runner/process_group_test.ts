import { assert, assertEquals, assertMatch } from "@std/assert";
import { waitUntil } from "../support/deadline.ts";
import { type GroupOptions, runGroup } from "./process_group.ts";

function shell(script: string, options: Partial<GroupOptions> = {}) {
  const lines: string[] = [];
  const outcome = runGroup("sh", {
    args: ["-c", script],
    timeout: 20_000,
    ...options,
    onLine(line) {
      lines.push(line);
      options.onLine?.(line);
    },
  });
  return { lines, outcome };
}

/** Whether a process has ended; one that no one waited for counts as ended. */
async function hasEnded(pid: string): Promise<boolean> {
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

Deno.test("runGroup() gives the lines and the exit code", async () => {
  const { lines, outcome } = shell(
    `echo one; echo "$VALUE"; printf three; exit 3`,
    { env: { VALUE: "two" }, cwd: "/" },
  );
  assertEquals(await outcome, { code: 3, ended: undefined, leftovers: [] });
  assertEquals(lines, ["one", "two", "three"]);
});

Deno.test("runGroup() gives the lines of both streams", async () => {
  const { lines, outcome } = shell("echo out; echo err >&2");
  await outcome;
  assertEquals(lines.toSorted(), ["err", "out"]);
});

Deno.test("runGroup() ends all processes at the time limit", async () => {
  const { lines, outcome } = shell("sleep 60 & echo $!; wait", {
    timeout: 300,
  });
  const { ended, leftovers } = await outcome;
  assertEquals([ended, leftovers], ["timeout", []]);
  assertEquals(lines.length, 1);
  assert(await hasEnded(lines[0]));
});

Deno.test("runGroup() ends processes that ignore being asked", async () => {
  const stop = new AbortController();
  const { lines, outcome } = shell(
    "trap '' TERM; echo $$; while :; do sleep 60; done",
    { signal: stop.signal, grace: 100, onLine: () => stop.abort() },
  );
  const { code, ended } = await outcome;
  assertEquals([code, ended], [137, "stopped"]);
  await waitUntil(() => hasEnded(lines[0]), { what: "the end of the shell" });
});

Deno.test("runGroup() reports and ends what is left", async () => {
  const { lines, outcome } = shell("sleep 60 & echo $!");
  const { code, ended, leftovers } = await outcome;
  assertEquals([code, ended, leftovers.length], [0, undefined, 1]);
  // By name it may still be the shell, before it becomes the command.
  assertMatch(leftovers[0], new RegExp(`^(?:sh|sleep) \\(${lines[0]}\\)$`));
  assert(await hasEnded(lines[0]));
});

Deno.test("runGroup() runs nothing when it is stopped already", async () => {
  const { outcome } = shell("sleep 60", { signal: AbortSignal.abort() });
  assertEquals((await outcome).ended, "stopped");
});
