import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "../errno.ts";
import { EventFd } from "../eventfd.ts";
import {
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_POLL_ADD,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
} from "./constants.ts";
import { IoUring } from "./io_uring.ts";
import { Operations, probeOperations } from "./probe.ts";
import { TestRing, uring } from "./testing/test_ring.ts";

uring.test("the kernel knows what the data plane needs", () => {
  using ring = new IoUring();
  const needed = [
    IORING_OP_NOP,
    IORING_OP_READV,
    IORING_OP_WRITEV,
    IORING_OP_FSYNC,
    IORING_OP_POLL_ADD,
    IORING_OP_ASYNC_CANCEL,
    IORING_OP_READ,
    IORING_OP_WRITE,
  ];
  for (const opcode of needed) {
    assert(ring.operations.supports(opcode), `operation ${opcode}`);
  }
});

uring.test("what the probe denies, the kernel refuses", () => {
  using t = new TestRing();
  const EINVAL = 22, EOPNOTSUPP = 95;
  const opcodes = [...Array(256).keys()];
  const denied = opcodes.filter((i) => !t.ring.operations.supports(i));
  assert(denied.length > 0 && denied.length < 256);
  for (const opcode of denied) t.add(opcode, opcode);
  for (const [opcode, result] of t.finish(denied.length)) {
    assert(
      result === -EINVAL || result === -EOPNOTSUPP,
      `operation ${opcode}: ${result}`,
    );
  }
});

Deno.test("numbers beyond those of operations are not supported", () => {
  const operations = new Operations(Uint8Array.of(1, 0, 1));
  assertEquals(
    [-1, 0, 1, 2, 3, 0.5].map((opcode) => operations.supports(opcode)),
    [false, true, false, true, false, false],
  );
});

Deno.test("what is not a ring cannot be probed", () => {
  using event = EventFd.create();
  assertThrows(() => probeOperations(event.fd), SystemError, "PROBE");
});
