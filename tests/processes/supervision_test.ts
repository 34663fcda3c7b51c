import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { REMAINS_FD } from "../../host/supervisor/protocol.ts";
import { Guest, SECTOR, T_IN, T_OUT } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { runCommand } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { ctl } from "../support/vhostd.ts";
import { stamp, VerifiedLoad } from "./load.ts";
import { isGone, LIMIT, Server } from "./server.ts";

/** Processes whose parent is `pid`. */
function childrenOf(pid: number): number[] {
  const text = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`);
  return text.trim().split(" ").filter((word) => word !== "").map(Number);
}

/** Field `index` of /proc/PID/stat, counted from 1 as in proc(5), from 3 on. */
function statField(pid: number, index: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[index - 3]);
}

/** Descriptors of a process: what each refers to, by number. */
function descriptorsOf(pid: number): Map<number, string> {
  const links = new Map<number, string>();
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    try {
      links.set(Number(name), Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    } catch (error) {
      // Closed meanwhile: that of a management client that has just left.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return links;
}

/** Sockets that listen, by path: `socket:[INODE]`. */
function listeningSockets(): Map<string, string> {
  const lines = Deno.readTextFileSync("/proc/net/unix").trim().split("\n");
  return new Map(
    lines.map((line) => line.trim().split(/\s+/))
      .filter((fields) => (parseInt(fields[3], 16) & 0x10000) !== 0)
      .map((fields) => [fields[7], `socket:[${fields[6]}]`]),
  );
}

/** Memory in which the rings of a device outlive its process. */
const RINGS = "/memfd:vhostd-rings";

/** The inodes of such memory that a process has. */
function ringMemories(pid: number): Set<number | null> {
  const fds = [...descriptorsOf(pid)]
    .filter(([, link]) => link.startsWith(RINGS));
  return new Set(
    fds.map(([fd]) => Deno.statSync(`/proc/${pid}/fd/${fd}`).ino),
  );
}

/** What one process has from another one, or one made for both. */
function handedOn(link: string): boolean {
  return /^(?:socket|pipe):/.test(link);
}

Deno.test("a device process has its own descriptors and nobody else's", async () => {
  using directory = TemporaryDirectory.make("fds");
  const stray = directory.file("stray");
  Deno.writeTextFileSync(stray, "");
  await using server = await Server.start({
    directory,
    disks: { a: "", b: "", c: "" },
    // A descriptor that the command itself inherits, and knows nothing of.
    wrapper: ["sh", "-c", `exec 9<"${stray}" && exec "$0" "$@"`],
  });
  // Guests' memory and eventfds, clients of the management: all that comes later.
  using _a = await Guest.run(server.socket("a"));
  using _b = await Guest.run(server.socket("b"));
  Deno.kill(await server.pid("c"), "SIGKILL");
  await server.until("c", "running", 1);

  const pids = await Promise.all(["a", "b", "c"].map((n) => server.pid(n)));
  const own = descriptorsOf(server.child.pid);
  assertEquals(childrenOf(server.child.pid).sort(), pids.toSorted());
  assert([...own.values()].includes(stray), "the command has the stray one");
  const listening = listeningSockets();
  const stderr = own.get(2)!;
  const fds = pids.map(descriptorsOf);
  // All front-ends' memory has the same name; this one has no front-end.
  for (const link of fds[2].values()) {
    assert(!link.startsWith("/memfd:") || link.startsWith(RINGS), link);
  }
  // Each has the memory of its own rings.
  const rings = pids.map(ringMemories);
  assertEquals(rings.map(({ size }) => size), [1, 1, 1]);
  assertEquals(new Set(rings.flatMap((inodes) => [...inodes])).size, 3);
  for (const [i, name] of ["a", "b", "c"].entries()) {
    const links = new Set(fds[i].values());
    assert(!links.has(stray));
    assert(!links.has(listening.get(directory.file("management"))!));
    for (const other of ["a", "b", "c"]) {
      const socket = listening.get(server.socket(other))!;
      assertEquals(links.has(socket), other === name, `${name}: ${other}`);
      const image = server.image(other);
      assertEquals(links.has(image), other === name, `${name}: ${image}`);
    }
    // With the command it shares the log, what it prints, its remains, and its
    // own socket.
    const shared = [...own.values()].filter((link) =>
      links.has(link) && handedOn(link)
    );
    const output = fds[i].get(1)!;
    const remains = fds[i].get(REMAINS_FD)!;
    const socket = listening.get(server.socket(name))!;
    const expected = [stderr, output, remains, socket];
    assert(remains.startsWith("pipe:") && remains !== output, remains);
    assertEquals(new Set(shared), new Set(expected), name);
    // With another process it shares the log alone.
    const next = new Set(fds[(i + 1) % 3].values());
    const common = [...links].filter((link) =>
      next.has(link) && handedOn(link)
    );
    assertEquals(common, [stderr], name);
  }
});

Deno.test("Ctrl-C stops the command, and every device drains", async () => {
  await using server = await Server.start({
    disks: { a: "", b: "" },
    // The leader of a process group of its own, as in a terminal.
    wrapper: ["setsid"],
  });
  const pids = [await server.pid("a"), await server.pid("b")];
  using guest = await Guest.run(server.socket("a"));
  const group = statField(server.child.pid, 5);
  assertEquals(group, server.child.pid);
  for (const pid of pids) {
    assert(statField(pid, 5) !== group, "Ctrl-C would kill it undrained");
  }
  const data = stamp(7, 7);
  for (let i = 0; i < 32; i++) guest.submit(T_OUT, i, data);
  await runCommand("kill", { args: ["-INT", "--", `-${group}`] });
  await server.ended();
  for (const { data: [status] } of guest.drivers[0].reap()) {
    assertEquals(status, 0);
  }
  for (const pid of pids) assert(isGone(pid));
  assertEquals(server.sockets(), []);
});

Deno.test("the death of the command ends its processes and frees the sockets", async () => {
  using directory = TemporaryDirectory.make("killed");
  const disks = { a: "", b: "" };
  let pids: number[] = [];
  {
    await using server = await Server.start({ directory, disks });
    pids = [await server.pid("a"), await server.pid("b")];
    using guest = await Guest.run(server.socket("a"));
    assertEquals((await guest.request(T_OUT, 5, stamp(5, 5))).status, 0);
    for (let i = 0; i < 32; i++) guest.submit(T_OUT, 100 + i, stamp(i, i));
    await server.child.stop("SIGKILL");
    await waitUntil(() => pids.every(isGone), {
      what: "the processes to end",
      timeout: LIMIT,
    });
    assertStringIncludes(
      server.child.stderr.text,
      "Stopping: the supervisor is gone",
    );
    // Drained: what the device said is done, is done.
    const image = Deno.readFileSync(server.image("a"));
    for (const { token, data } of guest.drivers[0].reap()) {
      assertEquals(data[0], 0, `request ${token}`);
    }
    assertEquals(image.subarray(5 * SECTOR, 6 * SECTOR), stamp(5, 5));
  }
  await using server = await Server.start({ directory, disks });
  using guest = await Guest.run(server.socket("a"));
  assertEquals((await guest.request(T_IN, 5, SECTOR)).data, stamp(5, 5));
  await server.child.stop();
});

Deno.test("--supervise=off serves everything in one process", async () => {
  await using server = await Server.start({
    disks: { a: "", b: "" },
    args: ["--supervise=off"],
  });
  assertEquals(childrenOf(server.child.pid), []);
  for (const name of ["a", "b"]) {
    const { pid, state, restarts, process } = await server.status(name);
    assertEquals(
      [pid, state, restarts, process],
      [server.child.pid, "running", 0, null],
    );
    using guest = await Guest.run(server.socket(name));
    assertEquals((await guest.request(T_IN, 1, SECTOR)).status, 0);
  }
  server.child.signal("SIGTERM");
  await server.ended();
  assertEquals(server.sockets(), []);
});

Deno.test("ctl sees and resizes disks in other processes", async () => {
  using directory = TemporaryDirectory.make("ctl");
  await using server = await Server.start({
    directory,
    disks: { a: "", b: "process=pool", c: "process=pool" },
  });
  const management = directory.file("management");
  await using load = await VerifiedLoad.start(server.socket("b"));
  await load.progress();
  const status = await ctl(management, "status");
  for (const name of ["a", "b", "c"]) {
    const pid = await server.pid(name);
    assertStringIncludes(status, `${name} (blk) on ${server.socket(name)}: `);
    const pool = name === "a" ? "" : "pool, ";
    assertStringIncludes(status, `  process: ${pool}pid ${pid}, `);
  }
  assertStringIncludes(status, "b.sock: a front-end is connected\n");
  assertStringIncludes(status, "restarts 0\n");
  Deno.truncateSync(server.image("c"), 8 << 20);
  assertEquals(
    await ctl(management, "resize", "all"),
    "a: 4 MiB, as before\nb: 4 MiB, as before\nc: 8 MiB, was 4 MiB\n",
  );
  Deno.truncateSync(server.image("a"), 8 << 20);
  server.child.signal("SIGHUP");
  await server.child.expect("capacity changed from 4194304 to 8388608", LIMIT);
  await load.stop();
});

Deno.test("signals to a device process mean that process alone", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  await using load = await VerifiedLoad.start(server.socket("b"));
  const pid = await server.pid("a");
  Deno.kill(pid, "SIGHUP");
  using guest = await Guest.run(server.socket("a"));
  assertEquals((await guest.request(T_OUT, 1, stamp(1, 1))).status, 0);
  assertEquals(await server.pid("a"), pid);
  Deno.kill(pid, "SIGTERM");
  const { lastExit } = await server.until("a", "running", 1);
  assertEquals(lastExit, "it ended by itself with exit code 0");
  await load.progress();
  await load.stop();
});
