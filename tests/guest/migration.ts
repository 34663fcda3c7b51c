/**
 * A Linux guest with a disk, a SCSI disk and a network device, that moves between
 * two QEMUs and two servers of ours on one machine while it writes and checks what
 * it wrote.
 *
 * Theory of operation: both servers run all the time, and name the same images; a
 * QEMU is connected to one of them, at most. Loops in the guest write random data,
 * read it back past the cache and compare; a loop that finds a difference says so
 * in a file and ends. After each move, and after one that was cancelled, every loop
 * must have gone on. In the end the guest's view of its disks is compared with the
 * images.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { runtimeArguments } from "../../host/cli/testing/vhostd.ts";
import { untilServing } from "../support/vhostd.ts";
import { waitUntil } from "../support/deadline.ts";
import { ChildProcess } from "../support/process.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, vhostUserBlk } from "./disks.ts";
import { vhostUserNet } from "./network.ts";
import {
  awaitLinuxGuest,
  type LinuxGuest,
  type LinuxMachine,
  startLinuxGuest,
} from "./rig/linux_guest.ts";
import { Wire } from "./wire.ts";

const MIB = 1 << 20;
/** How long (ms) a move may take. */
const MOVE_TIMEOUT = 120_000;

/** Bytes of memory that are copied in a second. */
const BANDWIDTH = 40 << 20;

/** That of a migration that does not come to its end. */
const CRAWL = 1 << 20;

/** Devices that log. */
const LOGGED = 3;

/** Properties of the devices, each with its comma. */
export interface DeviceProperties {
  readonly blk?: string;
  readonly scsi?: string;
  readonly net?: string;
}

/** Packed rings, of all devices. */
export const PACKED: DeviceProperties = {
  blk: ",packed=on",
  scsi: ",packed=on",
  net: ",packed=on",
};

/** What a move took. */
export interface Move {
  /** Milliseconds in which the guest stood still, as QEMU has it. */
  readonly downtime: number;
  /** Milliseconds from the start to the end. */
  readonly total: number;
  /** How often the dirty log was taken. */
  readonly rounds: number;
}

/** A move, for people. */
export function describeMove({ downtime, total, rounds }: Move): string {
  return `moved in ${total} ms and ${rounds} rounds, downtime ${downtime} ms`;
}

/** A shell loop in the background: `body` once a turn, with `$i`. */
function loop(name: string, body: string): string {
  return `(i=0; while [ ! -e /tmp/stop ]; do ${body} || ` +
    `{ echo "${name} $i" >> /tmp/failed; break; }; ` +
    `i=$((i+1)); echo $i > /tmp/${name}; done; touch /tmp/${name}.end) ` +
    `> /tmp/${name}.log 2>&1 & true`;
}

const LOADS: readonly [name: string, body: string][] = [
  [
    "file",
    "dd if=/dev/urandom of=/tmp/a bs=64k count=4 2>/dev/null && " +
    "cp /tmp/a /mnt/file$((i%8)) && sync && " +
    "dd if=/mnt/file$((i%8)) of=/tmp/d bs=64k iflag=direct 2>/dev/null && " +
    "cmp /tmp/a /tmp/d",
  ],
  [
    "raw",
    "dd if=/dev/urandom of=/tmp/b bs=64k count=4 2>/dev/null && " +
    "dd if=/tmp/b of=/dev/sda bs=64k seek=$((i%16*8)) oflag=direct " +
    "conv=notrunc 2>/dev/null && " +
    "dd if=/dev/sda of=/tmp/c bs=64k skip=$((i%16*8)) count=4 iflag=direct " +
    "2>/dev/null && cmp /tmp/b /tmp/c",
  ],
  [
    "memory",
    "dd if=/dev/zero of=/tmp/m bs=64k count=16 conv=notrunc 2>/dev/null",
  ],
  ["net", "ping -c 1 -W 5 -s 1000 10.9.0.1 > /tmp/pong && sleep 0.1"],
];

/**
 * A file that is on the disk and not in memory, and memory that does not happen to
 * hold its bytes: reading it while the guest moves has the device write pages that
 * were copied before.
 */
const FRESH =
  "dd if=/dev/urandom of=/tmp/fresh bs=64k count=64 2>/dev/null && " +
  "cp /tmp/fresh /mnt/fresh && sync && echo 3 > /proc/sys/vm/drop_caches && " +
  "dd if=/dev/zero of=/tmp/scrub bs=1M count=64 2>/dev/null && rm /tmp/scrub";

/** Reads that file, bit by bit, in the background; it types nothing meanwhile. */
const READ = "rm -f /tmp/read; (k=0; while [ $k -lt 16 ]; do " +
  "dd if=/mnt/fresh of=/dev/null bs=256k skip=$k count=1; sleep 0.2; " +
  "k=$((k+1)); done; touch /tmp/read) > /dev/null 2>&1 & true";

/** What QEMU says of a migration. */
interface MigrationState {
  readonly status: string;
  readonly downtime?: number;
  readonly "total-time"?: number;
  readonly ram?: Readonly<Record<string, unknown>>;
}

/** The guest, its two places, and what it writes. */
export class Migration implements AsyncDisposable {
  readonly #directory: TemporaryDirectory;
  readonly #servers: readonly ChildProcess[];
  readonly #wire: Wire;
  readonly #properties: DeviceProperties;
  #guest: LinuxGuest;
  #place = 0;
  #moves = 0;

  private constructor(
    directory: TemporaryDirectory,
    servers: readonly ChildProcess[],
    wire: Wire,
    guest: LinuxGuest,
    properties: DeviceProperties,
  ) {
    this.#properties = properties;
    this.#directory = directory;
    this.#servers = servers;
    this.#wire = wire;
    this.#guest = guest;
  }

  /** Starts the servers and the guest, and in it the loops. */
  static async start(properties: DeviceProperties = {}): Promise<Migration> {
    const directory = TemporaryDirectory.make("move");
    const wire = new Wire(directory.file("wire"));
    const servers: ChildProcess[] = [];
    try {
      makeImage(directory.file("disk.img"), 48 * MIB);
      makeImage(directory.file("scsi.img"), 16 * MIB);
      for (const place of [0, 1]) servers.push(await serve(directory, place));
      const guest = await startLinuxGuest(machine(directory, 0, properties));
      const migration = new Migration(
        ...[directory, servers, wire, guest, properties] as const,
      );
      await migration.#begin();
      return migration;
    } catch (error) {
      for (const server of servers) await server.stop();
      await wire[Symbol.asyncDispose]();
      directory[Symbol.dispose]();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    const guest = this.#guest;
    await this.#checkRings();
    await guest.check("mkfs.ext4 -q -F /dev/vda && mount /dev/vda /mnt");
    await guest.check(
      "ip link set eth0 up && ip addr add 10.9.0.2/24 dev eth0",
    );
    // What lies in memory only must come along too.
    await guest.check("dd if=/dev/urandom of=/tmp/kept bs=1M count=16");
    await guest.check(
      "sha256sum /tmp/kept > /tmp/sum",
    );
    for (const [name, body] of LOADS) await guest.check(loop(name, body));
    await this.#progress();
  }

  /** Checks that the rings of each device are packed, or are not, as was asked. */
  async #checkRings(): Promise<void> {
    const { blk = "", scsi = "", net = "" } = this.#properties;
    // RING_PACKED is 34.
    const bits = await this.#guest.check(
      "cut -c35 /sys/bus/virtio/devices/virtio[012]/features | tr -d '\\n'",
    );
    const asked = [blk, scsi, net].map((one) => /,packed=on/.test(one) ? 1 : 0);
    assertEquals(bits.trim(), asked.join(""));
  }

  /** Waits until every loop has gone round again. */
  async #progress(): Promise<void> {
    for (const [name] of LOADS) {
      await this.#guest.check(
        `n=$(cat /tmp/${name} 2>/dev/null || echo 0); i=0; ` +
          `while [ $(cat /tmp/${name} 2>/dev/null || echo 0) -lt $((n+2)) ] && ` +
          "[ $i -lt 300 ] && [ ! -e /tmp/failed ]; " +
          "do sleep 0.1; i=$((i+1)); done; " +
          `[ $(cat /tmp/${name}) -ge $((n+2)) ]`,
        60_000,
      );
    }
    await this.#guest.check("[ ! -e /tmp/failed ] || ! cat /tmp/failed");
  }

  /** How often a device of this place began to log what it writes, or ended it. */
  #times(event: "logged" | "not logged any more"): number {
    const said = this.#servers[this.#place].stderr.text;
    return said.split(`writes are ${event}`).length - 1;
  }

  /** A QEMU that waits at the other place, and what to call it for the move. */
  async #await(): Promise<{ target: LinuxGuest; uri: string }> {
    const uri = `unix:${this.#directory.file(`move${this.#moves++}`)}`;
    const there = machine(this.#directory, 1 - this.#place, this.#properties);
    return { target: await awaitLinuxGuest(there, uri), uri };
  }

  /**
   * Begins a move and cancels it when all devices log: the guest stays where it
   * is, and nothing is logged any more.
   */
  async cancel(): Promise<void> {
    const source = this.#guest;
    const begun = this.#times("logged") + LOGGED;
    const ended = this.#times("not logged any more") + LOGGED;
    const { target, uri } = await this.#await();
    await using _target = target;
    const { qmp } = source.qemu;
    const until = (what: string, condition: () => boolean | Promise<boolean>) =>
      waitUntil(condition, { what, timeout: MOVE_TIMEOUT });
    const status = async (): Promise<string> =>
      (await qmp.execute("query-migrate") as MigrationState).status;
    await qmp.execute("migrate-set-parameters", { "max-bandwidth": CRAWL });
    await qmp.execute("migrate", { uri });
    await until("logs of all devices", () => this.#times("logged") === begun);
    // Requests are written to the logs meanwhile.
    await this.#progress();
    assertEquals(await status(), "active");
    await qmp.execute("migrate_cancel");
    await until(
      "the end of a migration",
      async () => await status() === "cancelled",
    );
    await until(
      "the end of all logs",
      () => this.#times("not logged any more") === ended,
    );
    await this.#progress();
  }

  /** Moves the guest to the other place, under load, and checks that it goes on. */
  async move(): Promise<Move> {
    const source = this.#guest, place = 1 - this.#place;
    await source.check(FRESH, 60_000);
    const { target, uri } = await this.#await();
    const before = this.#times("logged");
    let arrived = false;
    try {
      const { qmp } = source.qemu;
      // Slow enough that the devices write pages that were copied before.
      await qmp.execute("migrate-set-parameters", {
        "max-bandwidth": BANDWIDTH,
        "downtime-limit": 300,
      });
      await source.check(READ);
      await qmp.execute("migrate", { uri });
      const state = async (): Promise<MigrationState> => {
        const now = await qmp.execute("query-migrate") as MigrationState;
        if (now.status !== "failed" && now.status !== "cancelled") return now;
        throw new Error(
          `The migration ended as ${JSON.stringify(now)}: ` +
            source.qemu.messages + target.qemu.messages,
        );
      };
      let result = await state();
      await waitUntil(
        async () => (result = await state()).status === "completed",
        { what: "the end of a migration", timeout: MOVE_TIMEOUT },
      );
      // All three devices logged what they wrote.
      assertEquals(this.#times("logged") - before, LOGGED);
      await source[Symbol.asyncDispose]();
      this.#guest = target;
      this.#place = place;
      arrived = true;
      await target.arrive();
      await target.check(
        "i=0; while [ ! -e /tmp/read ] && [ $i -lt 300 ]; do sleep 0.1; " +
          "i=$((i+1)); done; [ -e /tmp/read ]",
        60_000,
      );
      // From memory: it was read once, in part before the move.
      await target.check("cmp /tmp/fresh /mnt/fresh", 60_000);
      const echoes = this.#wire.echoes[place];
      await this.#progress();
      assert(this.#wire.echoes[place] > echoes, "frames go elsewhere");
      assert(this.#wire.announcements[place] > 0, "the move was not announced");
      return {
        downtime: Number(result.downtime),
        total: Number(result["total-time"]),
        rounds: Number(result.ram?.["dirty-sync-count"]),
      };
    } finally {
      if (!arrived) await target[Symbol.asyncDispose]();
    }
  }

  /** Ends the loops and compares what the guest sees with what is there. */
  async finish(): Promise<void> {
    const guest = this.#guest;
    await guest.check("touch /tmp/stop");
    for (const [name] of LOADS) {
      await guest.check(
        `i=0; while [ ! -e /tmp/${name}.end ] && [ $i -lt 300 ]; ` +
          `do sleep 0.1; i=$((i+1)); done; [ -e /tmp/${name}.end ]`,
        60_000,
      );
    }
    await guest.check("[ ! -e /tmp/failed ] || ! cat /tmp/failed");
    await guest.check("sha256sum -c /tmp/sum");
    assertEquals(
      await guest.check("dmesg | grep -ci 'i/o error' || true"),
      "0",
    );
    await guest.check("umount /mnt && e2fsck -fn /dev/vda");
    await guest.check("echo 3 > /proc/sys/vm/drop_caches");
    for (const [device, image] of [["vda", "disk.img"], ["sda", "scsi.img"]]) {
      const [sum] = (await guest.check(`sha256sum /dev/${device}`, 60_000))
        .split(" ");
      const bytes = Deno.readFileSync(this.#directory.file(image));
      assertEquals(sum, createHash("sha256").update(bytes).digest("hex"));
    }
    assertEquals(await guest.powerOff(), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#guest[Symbol.asyncDispose]();
    for (const server of this.#servers) await server.stop();
    await this.#wire[Symbol.asyncDispose]();
    this.#directory[Symbol.dispose]();
  }
}

/** The machine, as it is in both places but for its sockets. */
function machine(
  directory: TemporaryDirectory,
  place: number,
  { blk, scsi = "", net }: DeviceProperties,
): LinuxMachine {
  const socket = (type: string) => directory.file(`${type}${place}.sock`);
  return {
    memory: 256,
    // A kernel that clears what it allocates writes each page itself just before
    // the device does, and hides what a log leaves out.
    append: "init_on_alloc=0",
    devices: [
      ...vhostUserBlk(socket("blk"), blk),
      ...["-chardev", `socket,id=scsi,path=${socket("scsi")}`],
      ...["-device", `vhost-user-scsi-pci,chardev=scsi${scsi}`],
      ...vhostUserNet(socket("net"), { properties: net }),
    ],
  };
}

async function serve(
  directory: TemporaryDirectory,
  place: number,
): Promise<ChildProcess> {
  const socket = (type: string) =>
    `socket=${directory.file(`${type}${place}.sock`)}`;
  const server = ChildProcess.start(Deno.execPath(), {
    name: `vhostd-${place}`,
    env: { NO_COLOR: "1" },
    args: [
      ...runtimeArguments(),
      ...["serve", "--management=off", "--log-level=info"],
      `--blk=path=${directory.file("disk.img")},${socket("blk")}`,
      `--scsi=path=${directory.file("scsi.img")},${socket("scsi")}`,
      `--net=${socket("net")},backend=passt,` +
      `passt-socket=${directory.file("wire")}`,
    ],
  });
  return await untilServing(server);
}
