/**
 * Kills the server of a guest again and again.
 *
 * @module
 */

import { assert } from "@std/assert";
import { openFdCount } from "../../sys/fd.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { mappingsOf } from "../../sys/mapping.ts";
import { SECTOR } from "../protocol/disk.ts";
import { ChildProcess, lastLines } from "../support/process.ts";
import { type Requirement, skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { COMMAND_ARGUMENTS } from "../support/vhostd.ts";
import { CrashGuest, type CrashGuestOptions } from "./crash.ts";

const SECTORS = 4096;

/** A kind of disk, each with other instants at which requests are in flight. */
export interface CrashKind {
  readonly name: string;
  /** Keys of `--blk`. */
  readonly keys: string;
  /** Requests that the guest keeps in flight. */
  readonly depth: number;
  /** What the guest's driver does otherwise than usual. */
  readonly driver?: Pick<CrashGuestOptions, "packed" | "inOrder" | "indirect">;
  /** What its tests are declared with. */
  readonly requirement: Requirement;
}

const nothing = skipUnless(true, "");
const uring = skipUnless(IoUring.supported(), "io_uring is not available");

/** All kinds. */
export const KINDS: readonly CrashKind[] = [
  {
    name: "io_uring, direct",
    keys: "engine=io_uring,direct=on",
    depth: 64,
    requirement: uring,
  },
  {
    name: "io_uring, write-through",
    keys: "engine=io_uring,wce=off",
    depth: 64,
    requirement: uring,
  },
  {
    name: "sync",
    keys: "engine=sync,wce=off",
    depth: 32,
    requirement: nothing,
  },
];

/** Kinds with packed rings. */
export const PACKED_KINDS: readonly CrashKind[] = [
  {
    name: "packed, io_uring, direct",
    keys: "engine=io_uring,direct=on",
    depth: 64,
    driver: { packed: true },
    requirement: uring,
  },
  {
    name: "packed, in order, chains of three descriptors",
    keys: "engine=io_uring,wce=off",
    depth: 33,
    driver: { packed: true, inOrder: true, indirect: false },
    requirement: uring,
  },
];

function serve(image: string, socket: string, keys: string): ChildProcess {
  return ChildProcess.start(Deno.execPath(), {
    name: "vhostd",
    args: [
      ...COMMAND_ARGUMENTS,
      "serve",
      "--supervise=off",
      "--management=off",
      "--log-level=info",
      `--blk=path=${image},socket=${socket},${keys}`,
    ],
  });
}

/** Adds what a server wrote to an error. */
async function withWords(
  server: ChildProcess,
  body: () => Promise<void>,
): Promise<void> {
  try {
    await body();
  } catch (error) {
    throw new Error(`${error}\nvhostd: ${lastLines(server.stderr.text)}`, {
      cause: error,
    });
  }
}

/** The least of each column. */
function least(rows: readonly (readonly number[])[]): number[] {
  return rows[0].map((_, column) =>
    Math.min(...rows.map((row) => row[column]))
  );
}

/**
 * Serves a guest under load with one server after the other, each of which is
 * killed; those that had no request in flight do not count.
 *
 * @returns what there is to tell of the requests in flight
 */
export async function robOfServers(
  { keys, depth, driver }: CrashKind,
  count: number,
): Promise<string> {
  using directory = TemporaryDirectory.make("crash");
  const image = directory.file("disk.img");
  const socket = directory.file("blk.sock");
  Deno.writeFileSync(image, new Uint8Array(SECTORS * SECTOR));
  const seed = 0x9e37_79b9 ^ depth ^ keys.length;
  using guest = new CrashGuest({ depth, sectors: SECTORS, seed, ...driver });
  const flights: number[] = [];
  const own: [fds: number, areas: number][] = [];
  for (let kills = 0; flights.length < count; kills++) {
    assert(kills < 3 * count, "too few kills met requests in flight");
    await using server = serve(image, socket, keys);
    await withWords(server, async () => {
      await guest.connect(socket);
      own.push([openFdCount(), mappingsOf("vhostd-inflight")]);
      // Some die at once, before their first answer; others have served for a
      // while.
      const end = performance.now() + (kills % 8) ** 2 / 2;
      await guest.run(() => performance.now() >= end);
    });
    Deno.kill(server.pid, "SIGKILL");
    await server.status;
    const inFlight = guest.trackedRequests;
    if (inFlight > 0) flights.push(inFlight);
  }
  await using server = serve(image, socket, keys);
  await withWords(server, async () => {
    await guest.connect(socket);
    await guest.finish();
    await guest.leave();
  });
  guest.check(image);
  await server.stop();
  // Nothing piles up over the connections, after the first ones. What the
  // runtime still holds of a child that just ended comes and goes.
  const before = least(own.slice(4, 14)), after = least(own.slice(-10));
  const grown = after.some((count, i) => count > before[i]);
  assert(own.length >= 24 && !grown, `${after} at last, ${before} at first`);
  flights.sort((a, b) => a - b);
  return `${flights.length} kills with ${flights[0]} to ${
    flights.at(-1)
  } requests in flight, ${
    flights[flights.length >> 1]
  } at the median; ${guest.answered} requests answered`;
}
