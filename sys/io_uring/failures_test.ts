import { assertEquals } from "@std/assert";
import { runSource } from "../testing/run.ts";
import { uring } from "./testing/test_ring.ts";

// What runs under filters that let system calls of io_uring fail with an error
// number.
const FILTER = `
import { Arena } from "./arena.ts";
import { EventFd } from "./eventfd.ts";
import { IoUring } from "./io_uring/io_uring.ts";
import { forbidSystemCall as forbid } from "./testing/system_call_filter.ts";
import { openFdCount } from "./fd.ts";
const SETUP = 425, ENTER = 426, REGISTER = 427;
const print = (value) => console.log(JSON.stringify(value));
const kind = (body) => {
  try {
    body();
    return "none";
  } catch (error) {
    return error.kind + " " + error.message;
  }
};
`;

async function filtered(text: string): Promise<unknown[]> {
  const { code, stdout, stderr } = await runSource(FILTER + text);
  assertEquals(code, 0, stderr);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("where io_uring is forbidden or hidden, that is what is said", async () => {
  const program = (errno: number): string => `
    forbid(SETUP, ${errno});
    const before = openFdCount();
    print(IoUring.supported());
    print(IoUring.refusal().kind);
    print(kind(() => new IoUring()));
    print(openFdCount() - before);
  `;
  const text = "Cannot set up an io_uring:";
  assertEquals(await filtered(program(1)), [
    false,
    "EPERM",
    `EPERM ${text} Operation not permitted (EPERM); ` +
    "kernel.io_uring_disabled or a seccomp filter forbids it",
    0,
  ]);
  assertEquals(await filtered(program(38)), [
    false,
    "ENOSYS",
    `ENOSYS ${text} Function not implemented (ENOSYS); ` +
    "the kernel has none, or a seccomp filter hides it",
    0,
  ]);
});

uring.test("a ring that cannot be probed leaves nothing open", async () => {
  const result = await filtered(`
    const before = openFdCount();
    forbid(REGISTER, 1);
    print(kind(() => new IoUring()));
    print(openFdCount() - before);
  `);
  assertEquals(result, [
    "EPERM io_uring_register(PROBE): Operation not permitted (EPERM)",
    0,
  ]);
});

uring.test("a ring works without an index in its thread", async () => {
  const result = await filtered(`
    forbid(REGISTER, 22, 1, 20);
    using ring = new IoUring();
    const tokens = [];
    const source = ring.register((token) => tokens.push(token));
    ring.prepare(0, 0, -1, 0, 0, 0, 0, source, 1);
    ring.wait(-1);
    ring.reap(1);
    ring.prepare(0, 0, -1, 0, 0, 0, 0, source, 2);
    ring.wait(1000);
    ring.reap(1);
    print(tokens);
  `);
  assertEquals(result, [[1, 2]]);
});

uring.test("what the kernel takes not stays pending, and completions arrive", async () => {
  for (const [errno, name] of [[11, "EAGAIN"], [16, "EBUSY"]]) {
    const result = await filtered(`
      const ring = new IoUring({ entries: 2, completions: 2 });
      const tokens = [];
      const source = ring.register((token) => tokens.push(token));
      const nop = (token) => ring.prepare(0, 0, -1, 0, 0, 0, 0, source, token);
      // Two of them fit into the ring.
      for (let token = 1; token <= 6; token++) nop(token);
      ring.submit();
      // From now on the kernel takes no submissions.
      forbid(ENTER, ${errno}, 1);
      nop(7);
      nop(8);
      print(ring.submit());
      print(ring.pending);
      ring.wait(-1);
      print(kind(() => nop(9)));
      print(ring.pending);
      print(ring.arrived);
      ring.wait(-1);
      print(ring.reap(5));
      print(ring.reap(8));
      ring.wait(1);
      print(ring.ready);
      print(ring.reap(8));
      print(ring.inFlight);
      ring.close();
      print(tokens);
    `);
    assertEquals(result, [
      0,
      2,
      "EBUSY Cannot submit: the kernel takes none of 2 requests",
      2,
      true,
      5,
      1,
      false,
      0,
      2,
      [1, 2, 3, 4, 5, 6],
    ], `${name}`);
  }
});

uring.test("any other failure is an error, and a ring is closed all the same", async () => {
  const result = await filtered(`
    const before = openFdCount();
    const ring = new IoUring();
    const source = ring.register(() => {});
    forbid(ENTER, 9);
    ring.prepare(0, 0, -1, 0, 0, 0, 0, source, 1);
    print(kind(() => ring.submit()));
    print(kind(() => ring.wait(-1)));
    ring.close();
    print(openFdCount() - before);
  `);
  const error = "EBADF io_uring_enter: Bad file descriptor (EBADF)";
  assertEquals(result, [error, error, 0]);
});

uring.test("requests that cannot be ended in time are told of", async () => {
  const result = await filtered(`
    const event = EventFd.create({ nonblocking: false });
    const arena = new Arena(64);
    const before = openFdCount();
    const ring = new IoUring();
    const source = ring.register(() => {});
    const READ = 22;
    ring.prepare(READ, 0, event.fd, -1, arena.address, 8, 0, source, 1);
    ring.submit();
    // The kernel does not take the request to cancel it.
    forbid(ENTER, 11, 1);
    print(kind(() => ring.close(20)));
    print(ring.closed);
    print(openFdCount() - before);
    ring.close();
  `);
  assertEquals(result, [
    "ETIMEDOUT Cannot end 2 requests within 20 ms: " +
    "the kernel may still use their memory",
    true,
    0,
  ]);
});
