import { assert, assertEquals } from "@std/assert";
import { Guest, SECTOR, T_OUT } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { stamp } from "./load.ts";
import { isGone, LIMIT, Server } from "./server.ts";

const DEPTH = 128;
/** Far more than a stop takes: what is shown is that there is a bound. */
const BOUND = 10_000;

Deno.test("SIGTERM under load: the end is soon, and what was signalled is done", async () => {
  const sectors = 65_536;
  await using server = await Server.start({ disks: { a: "", b: "" }, sectors });
  const guests: Guest[] = [];
  for (const name of ["a", "b"]) {
    const guest = await Guest.run(server.socket(name), {
      size: 256,
      memory: 16 << 20,
    });
    guests.push(guest);
  }
  /** Sectors whose write was signalled as done, for each guest. */
  const done = guests.map(() => [] as number[]);
  const submitted = guests.map(() => 0);
  const flights = guests.map(() => new Map<number, number>());
  const submit = (i: number): void => {
    // Each sector is written once: what is in the file tells which writes were.
    const sector = submitted[i]++;
    const data = stamp(sector, i + 1);
    flights[i].set(guests[i].submit(T_OUT, sector, data), sector);
  };
  const reap = (i: number): number => {
    const completions = guests[i].drivers[0].reap();
    for (const { token, data } of completions) {
      assertEquals([...data], [0]);
      done[i].push(flights[i].get(token)!);
      flights[i].delete(token);
    }
    return completions.length;
  };
  let stopped = 0;
  for (const i of guests.keys()) for (let n = 0; n < DEPTH; n++) submit(i);
  while (!server.child.ended) {
    for (const i of guests.keys()) {
      for (let n = reap(i); n > 0 && submitted[i] < sectors; n--) submit(i);
    }
    if (stopped === 0 && done.every(({ length }) => length > 4 * DEPTH)) {
      server.child.signal("SIGTERM");
      stopped = performance.now();
    }
    await new Promise((resolve) => setTimeout(resolve));
  }
  const took = performance.now() - stopped;
  await server.ended();
  assert(took < BOUND, `${took} ms`);
  for (const [i, guest] of guests.entries()) {
    reap(i);
    const image = Deno.readFileSync(server.image("ab"[i]));
    for (const sector of done[i]) {
      const written = image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      assertEquals(written, stamp(sector, i + 1), `sector ${sector}`);
    }
    // What was still in flight is wholly done or not at all.
    for (const sector of flights[i].values()) {
      const written = image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      if (written.some((byte) => byte !== 0)) {
        assertEquals(written, stamp(sector, i + 1), `sector ${sector}`);
      }
    }
    guest[Symbol.dispose]();
  }
  assertEquals(server.sockets(), []);
});

Deno.test("a second signal ends everything at once, also what hangs", async () => {
  await using server = await Server.start({ disks: { a: "", b: "" } });
  const pids = [await server.pid("a"), await server.pid("b")];
  // It cannot drain, and cannot even be asked to.
  Deno.kill(pids[0], "SIGSTOP");
  server.child.signal("SIGTERM");
  await server.child.expect("Stopping: SIGTERM", LIMIT);
  assertEquals(server.child.ended, false);
  server.child.signal("SIGINT");
  await server.ended(130);
  // Nothing waits for what SIGKILL ends: it is a matter of moments.
  await waitUntil(() => pids.every(isGone), { what: "their end" });
  assertEquals(server.sockets(), []);
});
