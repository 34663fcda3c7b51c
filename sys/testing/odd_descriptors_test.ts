import { assertEquals } from "@std/assert";
import { isEventFd, isNonblocking, openFdCount } from "../fd.ts";
import { relieveEventFd } from "../eventfd.ts";
import { createFullEventFd, OddDescriptors } from "./odd_descriptors.ts";

Deno.test("OddDescriptors has one of each kind, and closes them all", () => {
  const directory = Deno.makeTempDirSync();
  const before = openFdCount();
  try {
    {
      using odd = new OddDescriptors(directory);
      const eventfds = odd.entries.filter(([, fd]) => isEventFd(fd));
      assertEquals(eventfds.map(([name]) => name), ["an eventfd"]);
    }
    assertEquals(openFdCount(), before);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("createFullEventFd() leaves no room for a signal", () => {
  for (const nonblocking of [true, false]) {
    using full = createFullEventFd(nonblocking);
    assertEquals(isNonblocking(full.fd), nonblocking);
    assertEquals(relieveEventFd(full.fd), true);
  }
});
