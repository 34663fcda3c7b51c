import { assertEquals } from "@std/assert";
import { NET } from "./net.ts";

Deno.test("a port says how many queues it has", () => {
  assertEquals(
    NET.ringHint({ queues: 2 }),
    "the device has 2 queue pairs: queues=2 in QEMU, or queues=N here",
  );
  assertEquals(
    NET.ringHint({ queues: 1, ctrlVq: false }),
    "the device has 1 queue pair: queues=1 in QEMU, or queues=N here; it has no control queue: ctrl_vq=off in QEMU",
  );
});

Deno.test("a TAP is told of by the name that it has", () => {
  const options = { backend: "tap", ifname: "vhostd%d" };
  const status = { tap: { interface: "vhostd3", queues: 1 } };
  assertEquals(
    NET.describe(options, status),
    'a network port of the TAP "vhostd3"',
  );
  assertEquals(
    NET.describe({ backend: "tap", tapfd: 7 }, status),
    "a network port of the TAP of descriptor 7",
  );
  assertEquals(
    NET.describe({ backend: "switch", name: "lan0" }, {}),
    'a network port of the switch "lan0"',
  );
});
