import { assert, assertEquals } from "@std/assert";
import { FrontEnd } from "../../vhost/testing/front_end.ts";
import { waitUntil } from "../support/deadline.ts";
import { Guest, ServedDisk } from "./disk.ts";
import {
  ATTEMPTS,
  DEPTH,
  READ_LENGTH,
  readFromMedium,
  SECTORS,
  SLOW,
  slowly,
  SlowReads,
} from "./slow_reads.ts";
import { VhostdProcess } from "./vhostd_process.ts";

/** A disk that can be looked at from outside. */
interface Looked {
  readonly socket: string;
  readonly image: string;
  /** Requests of ring 0 that the device works on. */
  inFlight(): Promise<number>;
}

/** What a front-end does, and what may go on afterwards. */
interface Departure {
  /** Says that the memory goes; returns when the back-end said that it has gone. */
  leave(guest: Guest, reads: SlowReads): Promise<void>;
  /** Lets a ring that goes on come to rest. */
  rest?(guest: Guest): Promise<void>;
}

/**
 * Takes memory away from reads that are in flight.
 *
 * @returns reads that ended between the request to go and the answer: they were
 * waited for
 */
async function drained(
  disk: Looked,
  { leave, rest }: Departure,
): Promise<number> {
  using guest = await Guest.connect(disk.socket, { copy: false });
  using reads = new SlowReads(guest);
  const { frontEnd, drivers: [driver] } = guest;
  await frontEnd.addMemReg(guest.region);
  await frontEnd.addMemReg(reads.region);
  await guest.start();
  reads.submit();
  await waitUntil(
    async () => await disk.inFlight() > 0 || driver.usedIndex === DEPTH,
    { what: "reads in flight", interval: 0 },
  );
  const before = driver.usedIndex;
  await leave(guest, reads);
  reads.mark();
  let count = 0;
  for (let i = before; i < driver.usedIndex; i++) {
    if (driver.usedElement(i).length === READ_LENGTH) count++;
  }
  await rest?.(guest);
  const last = driver.usedIndex;
  readFromMedium(disk.image);
  assertEquals(reads.changed, 0, "pages were written after the answer");
  assertEquals(driver.usedIndex, last, "a ring was written after the answer");
  return count;
}

/** As {@linkcode drained}, until there was something to wait for. */
async function drains(
  disk: Looked,
  leave: Departure["leave"],
  rest?: Departure["rest"],
): Promise<void> {
  for (let i = 0; i < ATTEMPTS; i++) {
    if (await drained(disk, { leave, rest }) > 0) return;
  }
  throw new Error(`No read ended while it was waited for, ${ATTEMPTS} times`);
}

/** A disk in this process. */
async function served(): Promise<[ServedDisk, Looked]> {
  const disk = await ServedDisk.start(SLOW, { sectors: SECTORS });
  const { socket, image, server } = disk;
  const inFlight = async () => {
    const [ring] = (await server.status()).rings as { inFlight: number }[];
    return ring?.inFlight ?? 0;
  };
  return [disk, { socket, image, inFlight }];
}

const REGION_LEAVES: [name: string, leave: Departure["leave"]][] = [
  ["REM_MEM_REG", ({ frontEnd }, { region }) => frontEnd.remMemReg(region)],
  ["SET_MEM_TABLE", ({ frontEnd, region }) => frontEnd.setMemTable([region])],
];

for (const [name, leave] of REGION_LEAVES) {
  slowly.test(`${name}: reads into the region end before the answer`, async () => {
    const [disk, looked] = await served();
    await using _disk = disk;
    const lengths = new Set<number>();
    await drains(looked, leave, async (guest) => {
      // The ring goes on: reads that the device had not taken find no memory.
      for (const { length } of await guest.complete(DEPTH)) lengths.add(length);
    });
    assert(lengths.isSubsetOf(new Set([READ_LENGTH, 0])), `${[...lengths]}`);
  });
}

slowly.test("GET_VRING_BASE: reads end before the answer, whose position says so", async () => {
  const [disk, looked] = await served();
  await using _disk = disk;
  await drains(looked, async ({ frontEnd, drivers: [driver] }) => {
    const position = await frontEnd.getVringBase(0);
    assertEquals(driver.usedIndex, position);
  });
});

slowly.test("ENABLE 0: reads end before the answer, the others after ENABLE 1", async () => {
  const [disk, looked] = await served();
  await using _disk = disk;
  await drains(looked, async ({ frontEnd }) => {
    await frontEnd.setVringEnable(0, false);
  });
  using guest = await Guest.connect(disk.socket, { copy: false });
  using reads = new SlowReads(guest);
  await guest.frontEnd.addMemReg(reads.region);
  await guest.start();
  for (let i = 0; i < ATTEMPTS; i++) {
    reads.mark();
    reads.submit();
    await guest.frontEnd.setVringEnable(0, false);
    await guest.frontEnd.setVringEnable(0, true);
    await guest.complete(DEPTH);
    assertEquals(reads.changed, reads.region.size / 4096);
  }
});

slowly.test("RESET_DEVICE: reads end before the answer", async () => {
  const [disk, looked] = await served();
  await using _disk = disk;
  await drains(looked, ({ frontEnd }) => frontEnd.resetDevice());
});

slowly.test("a front-end that leaves: reads end before the next one is served", async () => {
  const [disk, looked] = await served();
  await using _disk = disk;
  await drains(looked, async ({ frontEnd }) => {
    frontEnd.close();
    using next = FrontEnd.connect(disk.socket);
    await next.getFeatures();
  });
});

slowly.test("a server that stops: reads end before it has stopped", async () => {
  for (let i = 0; i < ATTEMPTS; i++) {
    const [disk, looked] = await served();
    await using _disk = disk;
    if (await drained(looked, { leave: () => disk.server.stop() }) > 0) return;
  }
  throw new Error("No read was in flight when the server stopped");
});

slowly.test("SIGTERM: reads end before the connection does", async () => {
  const keys = Object.entries(SLOW).map(([key, value]) =>
    `${key}=${value === true ? "on" : value === false ? "off" : value}`
  ).join(",");
  for (let i = 0; i < ATTEMPTS; i++) {
    await using vhostd = await VhostdProcess.start({
      disks: [{ name: "a", sectors: SECTORS, keys }],
    });
    const looked: Looked = {
      socket: vhostd.socket("a"),
      image: vhostd.image("a"),
      inFlight: async () => (await vhostd.status("a")).rings[0]?.inFlight ?? 0,
    };
    const count = await drained(looked, {
      leave: async ({ frontEnd }) => {
        Deno.kill(vhostd.supervisor, "SIGTERM");
        await frontEnd.closedByPeer();
      },
    });
    assertEquals((await vhostd.child.status).code, 0);
    if (count > 0) return;
  }
  throw new Error("No read was in flight at the signal");
});
