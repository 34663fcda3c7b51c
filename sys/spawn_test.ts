import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "./errno.ts";
import { isCloexec, openFdCount, setCloexec } from "./fd.ts";
import { libc } from "./libc.ts";
import { Reactor } from "./reactor.ts";
import { closeAllOnExec, createPipe, SpawnedProcess } from "./spawn.ts";
import { within } from "./testing/within.ts";

/** Runs a script of the shell; what it printed, and how it ended. */
async function shell(
  script: string,
  more: readonly (number | null)[] = [],
  signal?: number,
): Promise<{ output: string; code: number | null; signal: number | null }> {
  const [read, write] = createPipe();
  using _read = read;
  using reactor = new Reactor();
  using child = SpawnedProcess.start(
    "/bin/sh",
    ["sh", "-c", script],
    [null, write.fd, write.fd, ...more],
  );
  write.close();
  let output = "";
  if (signal !== undefined) child.signal(signal);
  const buffer = new Uint8Array(4096);
  await within(
    "the output",
    (async () => {
      for (;;) {
        await reactor.readable(read.fd);
        const n = libc().read(read.fd, buffer, BigInt(buffer.length));
        if (n <= 0) return;
        output += new TextDecoder().decode(buffer.subarray(0, n));
      }
    })(),
  );
  await within("the end", reactor.readable(child.fd));
  const status = child.reap();
  assert(status !== null);
  // Asking again, and a signal that comes too late, are harmless.
  assertEquals(child.reap(), status);
  child.signal(9);
  return { output, ...status };
}

Deno.test("a process is started with arguments and ends with a code", async () => {
  assertEquals(await shell(`echo "$0 é"; exit 7`), {
    output: "sh é\n",
    code: 7,
    signal: null,
  });
});

Deno.test("a process has our environment, as it is now", async () => {
  const name = "VHOSTD_SPAWN_TEST";
  const script = `echo "$HOME $${name}"`;
  Deno.env.set(name, "first");
  try {
    const first = await shell(script);
    assertEquals(first.output, `${Deno.env.get("HOME") ?? ""} first\n`);
    Deno.env.set(name, "second");
    Deno.env.set(`${name}_MORE`, "x".repeat(1000));
    assertEquals(
      (await shell(script)).output.trim().split(" ").at(-1),
      "second",
    );
  } finally {
    Deno.env.delete(name);
    Deno.env.delete(`${name}_MORE`);
  }
});

Deno.test("a process that a signal killed says which", async () => {
  for (const signal of [9, 15]) {
    const { code, signal: killer } = await shell("exec sleep 60", [], signal);
    assertEquals([code, killer], [null, signal]);
  }
});

Deno.test("the status of a process that runs is null", () => {
  using child = SpawnedProcess.start("/bin/sleep", ["sleep", "60"], []);
  assertEquals(child.reap(), null);
  child.signal(9);
});

Deno.test("a process has the descriptors that were named and no others", async () => {
  // An inherited descriptor: nobody made it close-on-exec.
  using stray = Deno.openSync("/dev/zero");
  const [ours, theirs] = createPipe();
  setCloexec(ours.fd, false);
  closeAllOnExec();
  assert(isCloexec(ours.fd));
  const { output } = await shell(
    "exec ls -l /proc/self/fd",
    [theirs.fd, null, theirs.fd],
  );
  const links = new Map(
    Array.from(
      output.matchAll(/(\d+) -> (.+)\n/g),
      ([, fd, link]) => [fd, link],
    ),
  );
  const pipe = Deno.readLinkSync(`/proc/self/fd/${theirs.fd}`);
  assertEquals(links.get("0"), "/dev/null");
  assertEquals(links.get("1"), links.get("2"));
  assertEquals(
    [links.get("3"), links.get("4"), links.get("5")],
    [pipe, "/dev/null", pipe],
  );
  // The folder that is being listed is one more.
  assertEquals([...links.keys()], ["0", "1", "2", "3", "4", "5", "6"]);
  assert(links.get("6")!.startsWith("/proc/"));
  ours.close();
  theirs.close();
  stray.close();
});

Deno.test("sources and targets may be the same numbers in another order", async () => {
  const [read, write] = createPipe();
  using _read = read, _write = write;
  using a = Deno.openSync("/dev/zero");
  using b = Deno.openSync("/dev/full");
  const fds = new Map(
    [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
      try {
        return [[Deno.readLinkSync(`/proc/self/fd/${name}`), Number(name)]];
      } catch {
        return [];
      }
    }) as [string, number][],
  );
  const [zero, full] = [fds.get("/dev/zero")!, fds.get("/dev/full")!];
  // Each target number is the source of another one.
  const more: (number | null)[] = [];
  for (let i = 3; i <= Math.max(zero, full); i++) more.push(null);
  more[zero - 3] = full;
  more[full - 3] = zero;
  const { output } = await shell(
    `readlink /proc/$$/fd/${zero} /proc/$$/fd/${full}`,
    more,
  );
  assertEquals(output, "/dev/full\n/dev/zero\n");
  a.close();
  b.close();
});

Deno.test("a process leads a group of its own and blocks no signal", async () => {
  const { output } = await shell(
    `cut -d" " -f1,5 /proc/$$/stat; exec grep SigBlk /proc/self/status`,
  );
  const [ids, blocked] = output.trim().split("\n");
  const [pid, group] = ids.split(" ");
  assertEquals(pid, group);
  assertEquals(blocked.replace(/\s+/, " "), "SigBlk: 0000000000000000");
});

Deno.test("a program that does not exist is an error, and leaks nothing", () => {
  const start = (path: string) => () => SpawnedProcess.start(path, ["x"], []);
  start("/bin/true")()[Symbol.dispose]();
  const before = openFdCount();
  const error = assertThrows(start("/nonexistent"), SystemError);
  assertEquals(error.kind, "ENOENT");
  assert(error.message.includes('"/nonexistent"'), error.message);
  assertEquals(assertThrows(start("/etc/passwd"), SystemError).kind, "EACCES");
  assertThrows(start("a\0b"), RangeError);
  assertThrows(
    () => SpawnedProcess.start("/bin/true", ["true"], [1, 2, 999_999]),
    SystemError,
    "EBADF",
  );
  assertEquals(openFdCount(), before);
});

Deno.test("the end of a child is told where SIGCHLD was ignored", async () => {
  const program = new URL("./testing/spawn_and_reap.ts", import.meta.url);
  const { stdout, stderr } = await new Deno.Command("env", {
    args: [
      ...["--ignore-signal=CHLD", Deno.execPath()],
      ...["run", "--no-check", "--allow-all", program.href],
    ],
  }).output();
  const decoder = new TextDecoder();
  assertEquals(
    decoder.decode(stdout),
    `{"code":3,"signal":null}\n`,
    decoder.decode(stderr),
  );
});
