import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { Bench } from "../../host/supervisor/testing/bench.ts";
import { FrontEnd, SharedRegion } from "../../vhost/testing/front_end.ts";
import { FakeDriver, FakeMemory } from "../../virtqueue/testing/driver.ts";
import {
  Guest,
  GUEST_BASE,
  header,
  SECTOR,
  T_IN,
  T_OUT,
} from "../protocol/disk.ts";
import { stamp, VerifiedLoad } from "./load.ts";
import { isGone, Server } from "./server.ts";

/** What the death of one process must not and must do. */
async function survives(
  server: Server,
  victim: string,
  load: VerifiedLoad,
  die: (pid: number) => void | Promise<void>,
  cause: RegExp,
): Promise<void> {
  const before = await server.until(victim, "running");
  await load.progress();
  await die(before.pid!);
  const after = await server.until(victim, "running", before.restarts + 1);
  await load.progress();
  assert(after.pid !== before.pid);
  assert(isGone(before.pid!));
  assertMatch(after.lastExit!, cause);
  const line = server.child.stderr.text.split("\n").find((each) =>
    each.includes("The device process died: ") &&
    each.includes(`pid=${before.pid}`)
  );
  assertStringIncludes(line!, after.lastExit!);
  assertStringIncludes(line!, `device=${victim} `);
}

Deno.test("the other disk notices nothing of a process that is killed", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  await using load = await VerifiedLoad.start(server.socket("b"));
  const bystander = await server.pid("b");
  for (let i = 1; i <= 3; i++) {
    using guest = await Guest.run(server.socket("a"));
    const data = stamp(i, i);
    assertEquals((await guest.request(T_OUT, i, data)).status, 0);
    // More are in flight when the end comes.
    for (let j = 0; j < 32; j++) guest.submit(T_OUT, 100 + j, data);
    await survives(
      server,
      "a",
      load,
      (pid) => Deno.kill(pid, "SIGKILL"),
      /^killed by SIGKILL/,
    );
    await guest.frontEnd.closedByPeer();
    using next = await Guest.run(server.socket("a"));
    for (let j = 1; j <= i; j++) {
      const { data: read, status } = await next.request(T_IN, j, SECTOR);
      assertEquals(status, 0);
      assertEquals(read, stamp(j, j));
    }
  }
  await load.stop();
  const { restarts, pid } = await server.status("b");
  assertEquals([restarts, pid], [0, bystander]);
});

Deno.test("a front-end that takes its memory away ends its own device alone", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  await using load = await VerifiedLoad.start(server.socket("b"));
  using frontEnd = FrontEnd.connect(server.socket("a"));
  // Sealing is closed, as that of QEMU's memory is: we cannot forbid it.
  using region = SharedRegion.create(GUEST_BASE, 1 << 20, { seals: false });
  await frontEnd.handshake();
  const driver = new FakeDriver(new FakeMemory([region]), { size: 128 });
  await frontEnd.start([region], new Map([[0, driver]]));
  await survives(server, "a", load, () => {
    for (let i = 0; i < 32; i++) {
      driver.submit([
        { readable: header(T_IN, i) },
        { writable: SECTOR },
        { writable: 1 },
      ]);
    }
    truncate(region.fd);
    frontEnd.kick(0);
  }, /^killed by SIGBUS \(memory or a mapped file became shorter\)$/);
  using guest = await Guest.run(server.socket("a"));
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
  await load.stop();
  assertEquals((await server.status("b")).restarts, 0);
});

/** What a device makes its own process die of, and what is said of it. */
const WAYS: readonly [
  way: string,
  die: (bench: Bench, pid: number) => void,
  cause: RegExp,
][] = [
  ["SIGSEGV", told("segfault"), /^killed by SIGSEGV \(/],
  [
    "SIGABRT",
    (_, pid) => Deno.kill(pid, "SIGABRT"),
    /^killed by SIGABRT \(/,
  ],
  [
    "an uncaught error",
    told("throw"),
    /^device "a" failed: .*The medium caught fire$/,
  ],
  [
    "heap exhaustion",
    told("exhaust"),
    /^killed by SIG(TRAP|ABRT|ILL): Fatal JavaScript out of memory: .+$/,
  ],
  [
    "an end of its own",
    (_, pid) => Deno.kill(pid, "SIGTERM"),
    /^it ended by itself with exit code 0$/,
  ],
];

/** A command that is never answered: its process dies of it. */
function told(command: string): (bench: Bench) => void {
  return (bench) => void bench.command("a", command).catch(() => {});
}

Deno.test("whatever a process dies of, it comes back, and another disk notices nothing", async () => {
  await using bench = new Bench();
  const sectors = 1024;
  const path = bench.directory.file("b.img");
  Deno.writeFileSync(path, new Uint8Array(sectors * SECTOR));
  const module = new URL("../../backends/blk/mod.ts", import.meta.url).href;
  await bench.start([
    bench.device("a"),
    bench.device("b", { type: "blk", module, options: { path } }),
  ]);
  const bystander = await bench.facts("b");
  await using load = await VerifiedLoad.start(
    bench.directory.file("b.sock"),
    sectors,
  );
  await load.progress();
  for (const [i, [way, die, cause]] of WAYS.entries()) {
    const { pid } = await bench.until("a", "running", i);
    die(bench, pid);
    const after = await bench.until("a", "running", i + 1);
    // What was in flight at the death ends well, and so does what follows.
    await load.progress();
    assertEquals((await bench.facts("b")).pid, bystander.pid, way);
    assertMatch(after.lastExit!, cause, way);
    assert(after.pid !== pid && isGone(pid), way);
    const lines = bench.logged("The device process died: ")
      .filter((each) => each.includes(`pid=${pid}\n`));
    assertEquals(lines.length, 1, way);
    assertStringIncludes(lines[0], after.lastExit!, way);
    using frontEnd = FrontEnd.connect(bench.directory.file("a.sock"));
    await frontEnd.handshake();
  }
  await load.stop();
  const { pid, restarts, connections } = await bench.facts("b");
  assertEquals([pid, restarts, connections], [bystander.pid, 0, 1]);
  assert(await bench.supervisor.stop());
});

/** Takes all memory of a memfd away. */
function truncate(fd: number): void {
  using file = Deno.openSync(`/proc/self/fd/${fd}`, { write: true });
  file.truncateSync(0);
}

Deno.test("memory that is open for seals cannot be taken away", async () => {
  await using server = await Server.start({ disks: { a: "" } });
  using guest = await Guest.run(server.socket("a"));
  let refused = false;
  try {
    truncate(guest.region.fd);
  } catch {
    refused = true;
  }
  assert(refused);
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
});

Deno.test("disks that share a process share its fate, and no other disk's", async () => {
  await using server = await Server.start({
    disks: { a: "process=pool", b: "", c: "process=pool" },
  });
  await using load = await VerifiedLoad.start(server.socket("b"));
  const [a, c] = [await server.status("a"), await server.status("c")];
  assertEquals([a.pid, a.process], [c.pid, "pool"]);
  const survivor = await server.pid("b");
  assert(survivor !== a.pid);
  Deno.kill(a.pid!, "SIGKILL");
  const again = [
    await server.until("a", "running", 1),
    await server.until("c", "running", 1),
  ];
  assertEquals(again[0].pid, again[1].pid);
  for (const name of ["a", "c"]) {
    using guest = await Guest.run(server.socket(name));
    assertEquals((await guest.request(T_IN, 0, SECTOR)).status, 0);
  }
  await load.progress();
  await load.stop();
  assertEquals(await server.pid("b"), survivor);
});

Deno.test("an image that is gone is waited for", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  await using load = await VerifiedLoad.start(server.socket("b"));
  const image = server.image("a");
  Deno.renameSync(image, `${image}.img`);
  Deno.kill(await server.pid("a"), "SIGKILL");
  const failed = await server.until("a", "failed", 2);
  assertStringIncludes(failed.problem!, `Cannot serve "${image}": `);
  assertEquals([failed.pid, failed.rss, failed.connected], [null, null, false]);
  await load.progress();
  Deno.renameSync(`${image}.img`, image);
  await server.until("a", "running");
  using guest = await Guest.run(server.socket("a"));
  assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
  await load.stop();
});
