import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { mapAnonymous } from "./mapping.ts";
import {
  currentThreadId,
  groupId,
  groupName,
  raiseNofileLimit,
} from "./process.ts";
import { run, RUN_INPUT, source } from "./testing/run.ts";
import { nextMessage, within } from "./testing/within.ts";

Deno.test("the limit on descriptors is raised to the hard limit", () => {
  const limit = raiseNofileLimit();
  assertEquals(limit.soft, limit.hard);
  const line = Deno.readTextFileSync("/proc/self/limits")
    .match(/Max open files\s+(\S+)\s+(\S+)/);
  const expected = line?.[1] === "unlimited" ? Infinity : Number(line?.[1]);
  assertEquals(limit.soft, expected);
  assertEquals(line?.[1], line?.[2]);
});

Deno.test("groups are found by name and by number", () => {
  assertEquals(groupId("0"), 0);
  assertEquals(groupId("4294967294"), 4294967294);
  const [name, , id] = Deno.readTextFileSync("/etc/group").split("\n")[0]
    .split(":");
  assertEquals(groupId(name), Number(id));
  assertEquals(groupName(Number(id)), `${id} (${name})`);
  assertEquals(groupName(4294967294), "4294967294");
});

Deno.test("groups that do not exist are refused by name", () => {
  for (const name of ["no such group", "", "4294967295", "-1", "roo", "0x0"]) {
    const error = assertThrows(() => groupId(name), SystemError);
    assertEquals(error.kind, "ENOENT");
    assert(error.message.includes(JSON.stringify(name)));
  }
});

Deno.test("a write beyond the limit on file sizes fails, and no more", async () => {
  const program = `
    import { DataFile } from "./file.ts";
    import { ignoreFileSizeSignal } from "./process.ts";
    ignoreFileSizeSignal();
    using file = DataFile.open(Deno.args[0], { create: true });
    try {
      file.write(new Uint8Array(4096), 64 << 20);
    } catch (error) {
      console.log(error.kind);
    }
  `;
  const directory = Deno.makeTempDirSync();
  try {
    const { code, stdout, stderr } = await run("sh", [
      "-c",
      'ulimit -f 131072 && exec "$@"',
      "sh",
      Deno.execPath(),
      ...RUN_INPUT,
      `${directory}/file`,
    ], source(program));
    assertEquals([code, stdout], [0, "EFBIG\n"], stderr);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("each thread has its own number", async () => {
  using event = EventFd.create();
  using mapping = mapAnonymous(4096);
  const url = new URL("./testing/waiting_worker.ts", import.meta.url);
  const worker = new Worker(url, { type: "module" });
  worker.postMessage({
    fd: event.fd,
    address: mapping.address,
    size: mapping.size,
  });
  const message = await within("start", nextMessage(worker));
  assertNotEquals((message as { thread: number }).thread, currentThreadId());
  event.signal();
  await within("end", nextMessage(worker));
});

Deno.test("the parent's command line is known", async () => {
  const program = `
    import { parentCommand } from "./process.ts";
    console.log(JSON.stringify(parentCommand()));
  `;
  const shell = '"$@"; exit $?';
  const { stdout } = await run("sh", [
    "-c",
    shell,
    "a (strange) name",
    Deno.execPath(),
    ...RUN_INPUT,
  ], source(program));
  const command: string[] = JSON.parse(stdout);
  assertEquals(command.slice(1, 4), ["-c", shell, "a (strange) name"]);
  assertEquals(command.at(-1), "-");
});
