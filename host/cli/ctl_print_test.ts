import { assertEquals } from "@std/assert";
import { json, lun, resize, status } from "./ctl_print.ts";

const DEVICE = {
  name: "root",
  type: "blk",
  socket: "root.sock",
  process: null,
  state: "running",
  problem: null,
  pid: 7,
  rss: 50 << 20,
  restarts: 0,
  lastExit: null,
  connected: false,
  connections: 3,
  refusedConnections: 1,
  session: null,
  rings: [],
  device: { capacity: 512, serial: "a\u001bb", storage: { path: "x" }, no: {} },
};

function text(...devices: Record<string, unknown>[]): string {
  return status({ version: "1.2.3", pid: 5, uptime: 90_061, devices });
}

Deno.test("a device that is served has its process and its facts", () => {
  assertEquals(
    text(DEVICE),
    `vhostd 1.2.3, pid 5, running for 1 d 1 h

root (blk) on root.sock: no front-end is connected
  process: pid 7, 50.0 MiB, restarts 0
  connections: 3, refused: 1
  capacity: 512
  serial: "a\\u001bb"
  storage:
    path: x
  no: none`,
  );
});

Deno.test("names of errors stay as they are, and null is none", () => {
  const requests = { bytesRead: 7, errors: { EIO: 1, E2BIG: 2 } };
  const device = { cache: null, requests };
  assertEquals(
    text({ ...DEVICE, device }).split("\n").slice(5),
    [
      "  cache: none",
      "  requests:",
      "    bytes read: 7",
      "    errors:",
      "      EIO: 1",
      "      E2BIG: 2",
    ],
  );
});

Deno.test("a device that is not served says why", () => {
  const facts = {
    socket: null,
    process: "pool",
    pid: null,
    rss: null,
    restarts: 4,
    lastExit: "killed by SIGKILL",
    device: {},
  };
  const failed = { ...facts, state: "failed", problem: "No medium\u0007" };
  assertEquals(
    text(
      { ...DEVICE, ...facts, state: "restarting" },
      { ...DEVICE, ...failed, name: "data" },
    ).split("\n").slice(2),
    [
      "root (blk) on an inherited descriptor: restarting",
      "  process: pool, none, restarts 4",
      "  last exit: killed by SIGKILL",
      "  connections: 3, refused: 1",
      "",
      "data (blk) on an inherited descriptor: failed",
      "  process: pool, none, restarts 4",
      '  problem: "No medium\\u0007"',
      "  last exit: killed by SIGKILL",
      "  connections: 3, refused: 1",
    ],
  );
});

Deno.test("resizing tells what changed", () => {
  const devices = [
    { name: "a", capacity: 1 << 20, previousCapacity: 1 << 10 },
    { name: "b", capacity: 1000, previousCapacity: 1000 },
  ];
  assertEquals(
    resize({ devices }),
    "a: 1 MiB, was 1 KiB\nb: 1000 bytes, as before",
  );
  assertEquals(JSON.parse(json({ devices })), { devices });
});

Deno.test("lists of objects are shown one under the other", () => {
  assertEquals(
    lun({
      name: "hba",
      target: 1,
      lun: 2,
      ports: [{ port: 0, facts: { up: true } }, {}],
      sizes: [1, 2],
    }),
    `hba: target 1, LUN 2
  ports:
    - port: 0
      facts:
        up: true
    - none
  sizes: [1,2]`,
  );
});
