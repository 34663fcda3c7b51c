import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { mapAnonymous } from "./mapping.ts";
import { currentThreadId, groupId, raiseNofileLimit } from "./process.ts";
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
});

Deno.test("groups that do not exist are refused by name", () => {
  for (const name of ["no such group", "", "4294967295", "-1", "roo", "0x0"]) {
    const error = assertThrows(() => groupId(name), SystemError);
    assertEquals(error.kind, "ENOENT");
    assert(error.message.includes(JSON.stringify(name)));
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
