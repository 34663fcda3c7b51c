import { assertEquals, assertThrows } from "@std/assert";
import { skipUnless } from "../tests/support/skip.ts";
import { SystemError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { Tap } from "./tap.ts";
import { NAMESPACE_ARGUMENTS, namespaceReason } from "./testing/namespace.ts";
import { run } from "./testing/run.ts";

const reason = namespaceReason();

skipUnless(reason === null, reason ?? "").test(
  "a TAP, alone and with several queues",
  async () => {
    const child = new URL("./testing/tap_child.ts", import.meta.url).pathname;
    const { stdout, stderr, code } = await run("unshare", [
      ...NAMESPACE_ARGUMENTS,
      ...[Deno.execPath(), "run", "--quiet", "--allow-all", child],
    ]);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(JSON.parse(stdout), {
      name: "one0",
      busy: "EBUSY",
      down: -5, // EIO: the interface is down
      empty: -11, // EAGAIN
      known: true,
      unknown: false,
      // To the neighbour, an IPv4 packet of five words of header.
      frame: [2, 0, 0, 0, 0, 2, 8, 0, 0x45],
      adopted: ["one0", 12],
      queues: ["2", "0"],
      detached: ["1", "1"],
      twice: "EINVAL",
      single: "EINVAL",
      gone: 'Error: Device "many" does not exist.\n',
      leaked: 1, // the connection that nobody answers
    });
  },
);

Deno.test("names that no interface has, and descriptors that are no TAP", () => {
  for (const name of ["", "a-name-of-16-byte", "a/b", "a b"]) {
    const error = assertThrows(() => Tap.open(name), SystemError);
    assertEquals(error.kind, "EINVAL");
  }
  using event = EventFd.create();
  const error = assertThrows(() => Tap.adopt(event.fd), SystemError);
  assertEquals(
    error.message,
    `Cannot use fd ${event.fd}: it is no queue of a TAP`,
  );
});
